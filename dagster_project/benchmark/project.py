"""Throw-away project for one trial, with its own population, ledger, reservation and folders.

The plan is reserved and every stage charged as in a release, so that a trial's epsilon is the one
in the ledger. Decoded real pairs come from the cache, and trials share a table model if everything
that determines it is the same.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster_project.benchmark.budget import cpu_seconds_of
from dagster_project.benchmark.cache import shared
from dagster_project.compute.workers import InProcess
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline import table_model
from dagster_project.pipeline.decoding import Decoder
from dagster_project.pipeline.release import Compute, Release
from dagster_project.planning.provenance import code_version
from dagster_project.privacy.plan import Plan

# Deliberately public, so that all trials of all comparisons hold out the same people.
HELDOUT_KEY = b"held-out people of a comparison on public data"

# Sections of a recipe that a table model cannot depend on; the seed and all else may determine it.
_AFTER_THE_TABLE = {
    "budget_split", "mean_pairs", "image_generator", "pretraining", "network", "dp_sgd", "sampler",
    "public_training",
}  # fmt: skip

_POPULATION = """\
population: comparison
unit: person
relation: add_remove
lifetime_epsilon: {lifetime}
target_delta: {delta}
n_public: {people}
ledger: ledger/ledger.sqlite
anchor: null
"""


@dataclass(frozen=True, kw_only=True)
class TrialRelease(Release):
    """Release that records the CPU seconds of its stages and shares equal table models.

    Attributes:
        cache: Folder of shared work.
        seconds: CPU seconds by stage; for a shared table model, the seconds of fitting it.
    """

    cache: Path
    seconds: dict[str, float] = field(default_factory=dict)
    _own: list[float] = field(default_factory=list)

    @property
    def own_seconds(self) -> float:
        """The CPU seconds that this process spent in stages."""
        return sum(self._own)

    def once(
        self,
        stage: str,
        run: Callable[..., None],
        *,
        executed: Mapping[str, Mapping[str, Any]] | None,
        files: Iterable[str],
        parents: Iterable[str],
        prepare: Callable[[], Any] | None = None,
    ) -> bool:
        def timed() -> None:
            self.seconds[stage] = cpu_seconds_of(lambda: run(*([prepare()] if prepare else [])))
            self._own.append(self.seconds[stage])

        def taken() -> None:
            self._share(timed, executed, tuple(files))

        return super().once(
            stage,
            taken if stage == "table_model" else timed,
            executed=executed,
            files=files,
            parents=parents,
        )

    def _share(
        self, timed: Callable[[], None], executed: Mapping[str, Any] | None, files: tuple[str, ...]
    ) -> None:
        """Copy the table model from the cache; the first trial that needs it fits it."""

        def make(folder: Path) -> None:
            timed()
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.models / name, folder / name)
            (folder / "seconds").write_text(str(self.seconds["table_model"]))

        made_from = {
            "data": self.plan.data_version,
            "schema": self.plan.schema_hash,
            "n_public": self.plan.n_public,
            "executed": executed,
            "settings": {k: v for k, v in self.plan.recipe.items() if k not in _AFTER_THE_TABLE},
            "code": code_version(table_model.__name__),
        }
        folder = shared(self.cache, "table", made_from, make)
        self.seconds["table_model"] = float((folder / "seconds").read_text())
        for name in files:
            (self.models / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, self.models / name)


def real_pairs(data: Path, schema: Schema, data_version: str, *, cache: Path) -> Path:
    """Return the folder of the decoded `train` and `heldout` pairs, the same for all trials.

    Raises:
        ReadingError: The data cannot be read.
    """

    def make(folder: Path) -> None:
        decoder = Decoder(folder / "decoding", InProcess())
        train, heldout, _ = read_pairs(data, schema, heldout_key=HELDOUT_KEY, decode=decoder)
        train.save(folder / "train")
        heldout.save(folder / "heldout")
        shutil.rmtree(folder / "decoding", ignore_errors=True)

    made_from = {
        "data": data_version,
        "schema": schema.hash,
        "code": code_version(Decoder.__module__),
    }
    return shared(cache, "pairs", made_from, make)


@contextmanager
def population(schema: Schema, *, epsilon: float, delta: float) -> Iterator[Population]:
    """Yield a population with a new ledger in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="comparison-") as folder:
        root = Path(folder)
        # The lifetime cap uses a looser accounting rule than a release; this fits exactly one.
        text = _POPULATION.format(lifetime=3 * epsilon + 3, delta=delta, people=schema.n_public)
        (root / "population.yaml").write_text(text)
        people = Population.load(root / "population.yaml")
        Ledger.open(people).close()
        yield people


@contextmanager
def reserved(
    plan: Plan, schema: Schema, people: Population, *, pairs: Path, compute: Compute, cache: Path
) -> Iterator[TrialRelease]:
    """Yield the plan's release: reserved, opened, with the decoded pairs in its private zone."""
    ledger = Ledger.open(people)
    try:
        ledger.reserve(
            plan, approved_by="comparison", schema_public=schema.public, allow_delta=True
        )
        release = TrialRelease(
            plan=Plan.from_json(ledger.release(plan.release_id).plan),
            schema=schema,
            ledger=ledger,
            root=people.path.parent,
            compute=compute,
            cache=cache,
        )
        release.write_schema()
        ledger.open_reservation(release.id)
        release.private.mkdir(parents=True)
        for part in ("train", "heldout"):
            os.symlink(pairs.resolve() / part, release.private / part)
        yield release
    finally:
        ledger.close()


def require_all_run(release: Release) -> None:
    """Raise RuntimeError if a planned stage has not run.

    Its method then either charged for what it did not use or bypassed the ledger.
    """
    stages = release.ledger.release(release.id).stages
    run = {name for name, stage in stages.items() if stage.artifacts is not None}
    if missing := sorted({m.stage for m in release.plan.mechanisms} - run):
        raise RuntimeError(f"the method did not run {', '.join(missing)}")
