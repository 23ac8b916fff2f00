"""Counts the people with noise, and ends a release for which nearly nobody is left.

Whether a release goes on is an output, so it may depend on private data only through a mechanism of
the plan. This is the first and by far the smallest one. If it ends the release, nothing else has
run, and the ledger gives back what nothing else has spent (docs/threats.md).
"""

from __future__ import annotations

import json
import traceback
from pathlib import Path

from dagster_project.data.check import look
from dagster_project.data.look import as_lines
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Release
from dagster_project.pipeline.too_few_people import TooFewPeople
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.minimum_people import MinimumPeople, expected_people

COUNT = "minimum_people.json"
LOOK = "look.txt"


def count(release: Release, data_dir: Path | None = None) -> bool:
    """Write `models/<id>/minimum_people.json`; does nothing if the plan does not count people.

    Args:
        release: The release.
        data_dir: The data folder, for the steward's look at it; None takes none.

    Raises:
        TooFewPeople: The release has ended, and what it did not spend was given back. The steward
            finds the reasons in `private/<id>/look.txt`.
    """
    if not release.spends(MinimumPeople.name):
        return False
    mechanism = release.mechanism(MinimumPeople)

    def run() -> None:
        generator = SecureGenerator()
        people = mechanism.run(len(load_train(release)), generator=generator)
        mechanism.verify(generator.uses)
        release.models.mkdir(parents=True, exist_ok=True)
        (release.models / COUNT).write_text(json.dumps({"people": people}))

    ran = release.once(
        mechanism.stage,
        run,
        executed={mechanism.name: mechanism.parameters()},
        files=(COUNT,),
        parents=(),
    )
    people = json.loads((release.models / COUNT).read_text())["people"]
    if people >= mechanism.minimum:
        return ran
    returned = release.ledger.stop(release.id)
    if data_dir is not None:
        (release.private / LOOK).write_text(_looked(data_dir) + "\n")
    raise TooFewPeople(
        f"too few people are left to train on: about {max(people, 0):,} (a count with noise of "
        f"standard deviation {mechanism.sigma:.0f}), where n_public lets expect "
        f"{expected_people(release.plan.n_public):,} and the minimum is {mechanism.minimum:,}; "
        + ("only this count was spent and the rest was given back" if returned else "it is spent")
        + ", `dptabimage check` says what became of the rows, and `--minimum-people` sets another "
        "minimum"
    )


def _looked(data_dir: Path) -> str:
    try:
        return "\n".join(as_lines(look(data_dir, data_dir / "schema.yaml", examples=3)))
    except Exception:  # how the release ends is shown, so it must follow from the count alone
        return traceback.format_exc()
