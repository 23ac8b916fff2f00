"""A release without Dagster: every stage in its order, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline.order import STAGES, between, stage
from dagster_project.pipeline.run import run
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest
from tests.toy_project import write_project


def test_every_stage_runs_after_those_it_goes_on_with() -> None:
    names = [known.name for known in STAGES]
    assert len(set(names)) == len(names)
    for place, known in enumerate(STAGES):
        assert set(known.after) <= set(names[:place]), known.name
    assert [s.name for s in between("pairs", "semantic_query")] == [
        "pairs", "minimum_people", "table_model", "semantic_query",
    ]  # fmt: skip
    assert stage("mean_pairs").after == ("subsample", "table_model")


def test_a_release_is_made_and_made_once(tmp_path: Path, solved: Plan) -> None:
    root = write_project(tmp_path)
    population = Population.load(root / "population.yaml")
    ledger = Ledger.open(population)
    told: list[float] = []

    def make() -> Path:
        return run(
            solved,
            root / "data",
            ledger,
            schema=Schema.from_file(root / "data" / "schema.yaml"),
            root=root,
            heldout_key=population.member_key(),
            approved_by="a tester",
            n=20,
            seed=3,
            progress=lambda fraction, text: told.append(fraction),
        )

    bundle = make()
    stated = manifest.read(bundle)
    assert stated["sampling"]["n"] == 20
    assert told == sorted(told) and told[-1] == pytest.approx(1)
    entries = len(ledger.entries())
    (spent,) = {cohort.spent for cohort in ledger.cohorts()}
    assert make() == bundle and manifest.read(bundle) == stated
    assert len(ledger.entries()) == entries
    assert {cohort.spent for cohort in ledger.cohorts()} == {spent}
    ledger.close()
