"""The manifest: what it says, what it keeps to itself, and what an auditor's check catches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_project.data.schema import Schema
from dagster_project.privacy.accounting import true_positive_rates
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest as manifests
from dagster_project.release.manifest import ManifestError
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


def test_whole_bundle_verifies(bundle: Path, plan: Plan) -> None:
    verified = manifests.verify(bundle)
    assert verified.release_id == "toy-1"
    assert verified.epsilon == pytest.approx(plan.composed_epsilon, abs=1e-6)
    curve = true_positive_rates(plan.events, (0.001, 0.01, 0.5), discretization=1e-3)
    assert [verified.true_positives[rate] for rate in (0.001, 0.01, 0.5)] == pytest.approx(curve)
    assert verified.files == 3 + 3 + 2


def flip(folder: Path) -> None:
    path = next((folder / "data").iterdir())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def add(folder: Path) -> None:
    (folder / "data" / "extra.parquet").write_bytes(b"")


def drop(folder: Path) -> None:
    (folder / "quality.json").unlink()


def link(folder: Path) -> None:
    (folder / "data" / "link").symlink_to("/etc/hostname")


def unfinished(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def torn(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip, "altered"),
        (add, "not listed"),
        (drop, "missing"),
        (link, "symbolic link"),
        (unfinished, "not a finished release"),
        (torn, "cannot be read"),
    ],
)
def test_damage_is_found(bundle: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(bundle)
    with pytest.raises(ManifestError, match=message):
        manifests.verify(bundle)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["privacy"].update(epsilon=m["privacy"]["epsilon"] - 1e-5), "compose to"),
        (lambda m: m["privacy"]["mechanisms"].pop(), "compose to"),
        (lambda m: m["privacy"]["mechanisms"][0]["event"].update(type="free"), "events"),
        (lambda m: m["privacy"].pop("mechanisms"), "events"),
        (lambda m: m["privacy"].update(epsilon=float("nan")), "compose to"),
        (lambda m: m["privacy"].update(discretization=0), "guarantee"),
        (lambda m: m["privacy"]["trade_off"][1].update(true_positives=0.011), "trade-off"),
        (lambda m: m["privacy"]["trade_off"].pop(), "trade-off"),
        (lambda m: m["privacy"].pop("trade_off"), "guarantee"),
        (lambda m: m.update(files=[]), "no files"),
        (lambda m: m.update(format=1), "format"),
    ],
)
def test_false_claims_are_found(
    bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(ManifestError, match=message):
        manifests.verify(bundle)


def test_written_manifest_is_the_built_one_with_files(
    bundle: Path, manifest: dict[str, Any], schema: Schema
) -> None:
    written = manifests.read(bundle)
    assert written.pop("files")
    assert written == json.loads(json.dumps(manifest))
    assert Schema.from_dict(written["schema"]).to_dict() == schema.to_dict()
