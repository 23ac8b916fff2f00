"""The manifest: what it says and what it keeps to itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dagster_project.data.schema import Schema
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest as manifests
from tests.release.samples import make_plan, make_schema


def test_holds_the_plan_and_its_events(manifest: dict[str, Any], plan: Plan) -> None:
    assert manifest["privacy"]["epsilon"] == plan.composed_epsilon
    assert manifest["privacy"]["delta"] == plan.target_delta
    assert tuple(manifests.recorded_events(manifest)) == plan.events
    assert manifest["privacy"]["mechanisms"][3]["event"] == {
        "type": "poisson_sampled_gaussian",
        "noise_multiplier": 2.0,
        "sample_rate": 0.05,
        "count": 40,
    }
    assert manifest["data"]["version"] == "md5-of-the-data"
    assert manifest["ledger_head"] == "f" * 64
    assert manifest["packages"]["dp-accounting"] == "0.6.0"


def test_hashes_of_private_data_stay_out() -> None:
    schema = make_schema(public=False)
    plan = make_plan(schema)
    built = manifests.build(plan, schema, sampling={"n": 1, "seed": 0}, ledger_head="0")
    text = json.dumps(built)
    assert plan.data_version not in text
    assert plan.hash not in text


def test_schema_of_another_plan_is_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="schema"):
        manifests.build(plan, make_schema(n_public=5), sampling={}, ledger_head="0")


def test_written_manifest_is_the_built_one_with_files(
    bundle: Path, manifest: dict[str, Any], schema: Schema
) -> None:
    written = manifests.read(bundle)
    assert written.pop("files")
    assert written == json.loads(json.dumps(manifest))
    assert Schema.from_dict(written["schema"]).to_dict() == schema.to_dict()
