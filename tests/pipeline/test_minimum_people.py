"""The stage that ends a release for which nearly nobody is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline.minimum_people import COUNT, LOOK, count
from dagster_project.pipeline.pairs import read
from dagster_project.pipeline.release import Release
from dagster_project.pipeline.too_few_people import TooFewPeople
from dagster_project.privacy.plan import Plan
from tests.toy_project import ledger_of, write_project


def opened(root: Path, plan: Plan, ledger: Ledger) -> Release:
    schema = Schema.from_file(root / "data" / "schema.yaml")
    ledger.reserve(plan, approved_by="a tester", schema_public=False)
    release = Release(plan=plan, schema=schema, ledger=ledger, root=root)
    key = Population.load(root / "population.yaml").member_key()
    read(release, root / "data", heldout_key=key, progress=silent)
    return release


def test_a_release_of_nobody_ends_and_is_given_back(tmp_path: Path, solved: Plan) -> None:
    root = write_project(tmp_path)
    records = root / "data" / "records.csv"
    header, *rows = records.read_text().splitlines()
    records.write_text("\n".join([header, *(f"{row}," for row in rows)]) + "\n")
    with ledger_of(root) as ledger:
        release = opened(root, solved, ledger)
        (before,) = (cohort.spent for cohort in ledger.cohorts())
        for _ in range(2):  # a second run says the same and draws nothing again
            with pytest.raises(TooFewPeople, match="only this count was spent") as ended:
                count(release, root / "data")
        (after,) = (cohort.spent for cohort in ledger.cohorts())
        assert 0 < after < 0.02 * before
        assert [entry.kind for entry in ledger.entries()][-2:] == ["COMMITTED", "STOPPED"]
    assert "300" not in str(ended.value)  # no exact number, only the noisy one and public ones
    look = (release.private / LOOK).read_text()
    assert "0 of 300 rows" in look and "end in a delimiter" in look
    assert not (release.models / LOOK).exists()


def test_the_steward_s_look_decides_nothing(
    reserved: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look sees exact values: even if it fails, the release ends in the same sentence."""

    def fails(*_: object, **__: object) -> None:
        raise OverflowError("a value of one person")

    monkeypatch.setattr("dagster_project.pipeline.minimum_people.look", fails)
    monkeypatch.setattr("dagster_project.pipeline.minimum_people.load_train", lambda _: [])
    reserved.ledger.open_reservation(reserved.id)
    reserved.private.mkdir(parents=True, exist_ok=True)
    with pytest.raises(TooFewPeople, match="only this count was spent"):
        count(reserved, reserved.root / "data")
    assert "a value of one person" in (reserved.private / LOOK).read_text()


def test_a_release_of_everybody_goes_on(tmp_path: Path, solved: Plan) -> None:
    root = write_project(tmp_path)
    with ledger_of(root) as ledger:
        release = opened(root, solved, ledger)
        assert count(release, root / "data") and not count(release, root / "data")
        assert ledger.release(release.id).status == "OPENED"
    assert (release.models / COUNT).is_file() and not (release.private / LOOK).exists()
