"""From an archive in its owners' form to a finished toy release, whose manifest verifies."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dagster_project.cli import main as cli
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline import (
    detail_model,
    image_model,
    mean_pairs,
    pairs,
    pretrained_checkpoint,
    subsample,
    synthetic_release,
    table_model,
)
from dagster_project.pipeline.release import Release
from dagster_project.planning.planner import build_plan
from dagster_project.release import verification
from dagster_project.settings.recipe import Recipe
from tests.importers.archives import ARCHIVES
from tests.toy_project import POPULATION, SETTINGS

SMALLEST = SETTINGS | {
    "table.rounds": None,
    "table.iterations": 5,
    "table.final_iterations": 5,
    "pretraining.procedural": 32,
    "pretraining.steps": 2,
    "dp_sgd.steps": 2,
    "dp_sgd.batch": 8,
    "dp_sgd.checkpoint_steps": 1,
    "sampler.steps": 1,
}
FEW = {  # of the paper's attributes, for the time of the table model
    "celeba": ["--attributes", "Male,Smiling"],
    "chestxray14": ["--attributes", "sex,age"],
    "deepfashion": ["--attributes", "hat,denim"],
}
PAIRS = 12


@pytest.mark.parametrize("kind", [kind for kind in ARCHIVES if kind != "parquet"])
def test_an_archive_becomes_a_release(kind: str, tmp_path: Path) -> None:
    name, draw, told = ARCHIVES[kind]
    source, data = draw(tmp_path / "source"), tmp_path / "data"
    more = ["--size", "12x12", "--n-public", "60", *FEW.get(kind, [])]
    assert cli.main(["import", name, str(source), str(data), *told, *more]) == 0
    assert cli.main(["check", "--data", str(data)]) == 0
    schema = Schema.from_file(data / "schema.yaml")
    bundle = released(tmp_path, schema)
    assert verification.verify(bundle).epsilon <= 5.0
    table = pd.concat(pd.read_parquet(file) for file in sorted((bundle / "data").glob("*.parquet")))
    assert len(table) == PAIRS and set(schema.names) <= set(table.columns)
    for attribute in schema.attributes:
        _, fits = attribute.encode(table[attribute.name])
        assert fits.all()


def released(root: Path, schema: Schema) -> Path:
    """The bundle of a release of the data in `root`, every stage run in this process."""
    (root / "population.yaml").write_text(POPULATION)
    population = Population.load(root / "population.yaml")
    ledger = Ledger.open(population)
    try:
        plan = build_plan(
            schema,
            Recipe().changed(SMALLEST),
            name="toy",
            target_epsilon=5.0,
            target_delta=1e-4,
            population=population.name,
            data_version="listing:1",
            code_version="c0de",
            identity_key=population.member_key(),
        )
        ledger.reserve(plan, approved_by="a tester", schema_public=schema.public)
        release = Release(plan=plan, schema=schema, ledger=ledger, root=root)
        release.write_schema()
        key = population.member_key()
        pairs.read(release, root / "data", heldout_key=key, progress=silent)
        table_model.fit(release, silent)
        subsample.draw(release)
        mean_pairs.measure(release, silent)
        pretrained_checkpoint.make(release, silent)
        image_model.train(release, silent)
        detail_model.fit(release, silent)
        bundle = root / "releases" / plan.release_id
        synthetic_release.make(release, bundle, n=PAIRS, seed=1, progress=silent)
        return bundle
    finally:
        ledger.close()
