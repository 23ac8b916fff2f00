"""A reserved release on the toy project, without Dagster; its plan is solved once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline import pairs
from dagster_project.pipeline.release import Release
from dagster_project.planning.planner import build_plan
from dagster_project.privacy.plan import Plan
from dagster_project.settings.recipe import Recipe
from tests.toy_project import SETTINGS, write_project


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    root = write_project(tmp_path_factory.mktemp("solved"))
    return build_plan(
        Schema.from_file(root / "data" / "schema.yaml"),
        Recipe().changed(SETTINGS),
        name="staged",
        target_epsilon=5.0,
        target_delta=1e-4,
        population="toys",
        data_version="listing:1",
        code_version="c0de",
        identity_key=b"k" * 32,
    )


@pytest.fixture
def reserved(tmp_path: Path, solved: Plan) -> Release:
    root = write_project(tmp_path)
    ledger = Ledger.open(Population.load(root / "population.yaml"))
    ledger.reserve(solved, approved_by="a tester", schema_public=False)
    schema = Schema.from_file(root / "data" / "schema.yaml")
    release = Release(plan=solved, schema=schema, ledger=ledger, root=root)
    release.write_schema()
    yield release
    ledger.close()


@pytest.fixture
def opened(reserved: Release) -> Release:
    """The same with its records read."""
    key = Population.load(reserved.root / "population.yaml").member_key()
    pairs.read(reserved, reserved.root / "data", heldout_key=key, progress=silent)
    return reserved
