"""One schema, plan, manifest and bundle for the tests of a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagster_project.data.schema import Schema
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest as manifests
from tests.release.samples import CHUNK, TOTAL, make_plan, make_schema, write_bundle


@pytest.fixture(scope="session")
def schema() -> Schema:
    return make_schema()


@pytest.fixture(scope="session")
def plan(schema: Schema) -> Plan:
    return make_plan(schema)


@pytest.fixture(scope="session")
def manifest(plan: Plan, schema: Schema) -> dict[str, Any]:
    sampling = {"n": TOTAL, "seed": 7, "chunk": CHUNK}
    return manifests.build(plan, schema, sampling=sampling, ledger_head="f" * 64)


@pytest.fixture
def bundle(tmp_path: Path, schema: Schema, manifest: dict[str, Any]) -> Path:
    """A finished bundle."""
    write_bundle(tmp_path / "toy-1", schema, manifest)
    return tmp_path / "toy-1"
