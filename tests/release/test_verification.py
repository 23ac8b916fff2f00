"""What an auditor's check of a bundle catches, without the ledger and with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.data.schema import Schema
from dagster_project.ledger import ArtifactAltered, Ledger, UnknownRelease, file_sha256
from dagster_project.privacy import accounting
from dagster_project.privacy.accounting import true_positive_rates
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest as manifests
from dagster_project.release.card import write_card
from dagster_project.release.manifest import ManifestError
from dagster_project.release.verification import require_charged, verify
from tests.ledger.toys import executed, population
from tests.release.samples import QUALITY, make_plan


def test_whole_bundle_verifies(bundle: Path, plan: Plan) -> None:
    verified = verify(bundle)
    assert verified.release_id == "toy-1"
    assert verified.epsilon == pytest.approx(plan.composed_epsilon, abs=1e-6)
    curve = true_positive_rates(plan.events, (0.001, 0.01, 0.5), discretization=1e-3)
    assert [verified.true_positives[rate] for rate in (0.001, 0.01, 0.5)] == pytest.approx(curve)
    assert verified.files == 3 + 3 + 3


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
        verify(bundle)


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
        (lambda m: m.update(population="others"), "card"),
        (lambda m: m["privacy"].update(n_public=9), "card"),
        (lambda m: m["schema"].update(name="other"), "schema"),
        (lambda m: m["schema"]["attributes"].pop("weight"), "schema"),
    ],
)
def test_false_claims_are_found(
    bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(bundle, change)
    with pytest.raises(ManifestError, match=message):
        verify(bundle)


def card(folder: Path, change: Callable[[str], str]) -> None:
    """An altered card that the manifest lists as its own."""
    path = folder / "README.md"
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    relist(folder)


def relist(folder: Path) -> None:
    rewrite(folder, lambda m: m.update(files=manifests.file_hashes(folder)))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: re.sub(r"ε = [\d.]+", "ε = 0.100", text, count=1),
        lambda text: text.replace("**synthetic**", "real"),
        lambda text: text + "\nVerified by us.\n",
        lambda text: text[: len(text) // 2],
    ],
)
def test_an_edited_card_is_found(bundle: Path, change: Callable[[str], str]) -> None:
    card(bundle, change)
    with pytest.raises(ManifestError, match=r"of the card .* is not what"):
        verify(bundle)


def test_a_missing_card_and_foreign_figures_are_found(bundle: Path) -> None:
    quality = bundle / "quality.json"
    text = quality.read_text()
    quality.write_text(text.replace("0.1", "0.001"))
    relist(bundle)
    with pytest.raises(ManifestError, match="card"):
        verify(bundle)
    quality.write_text('{"cliques": 3}')
    relist(bundle)
    with pytest.raises(ManifestError, match="No card follows"):
        verify(bundle)
    quality.write_text(text)
    (bundle / "README.md").unlink()
    relist(bundle)
    with pytest.raises(ManifestError, match="no card"):
        verify(bundle)


@pytest.fixture
def ledger(bundle: Path, plan: Plan, schema: Schema, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that charged the plan and committed the bundle."""
    ledger = Ledger.open(population(tmp_path / "ledger", n_public=1000, target_delta=1e-5))
    ledger.reserve(plan, approved_by="steward", schema_public=True)
    ledger.open_reservation(plan.release_id)
    for stage in ("table_model", "mean_pairs", "image_model"):
        ledger.begin(plan.release_id, stage, executed(plan, stage))
        ledger.commit(plan.release_id, stage, {stage: "ab" * 32})
    rewrite(bundle, lambda m: m.update(ledger_head=ledger.head))
    hashes = {name: entry["sha256"] for name, entry in manifests.file_hashes(bundle).items()}
    hashes[manifests.NAME] = file_sha256(bundle / manifests.NAME)
    # The card names the head, so it is written after the manifest has it.
    stated = manifests.read(bundle)
    (bundle / "README.md").write_text(write_card(stated, schema, QUALITY))
    relist(bundle)
    hashes |= {
        "README.md": file_sha256(bundle / "README.md"),
        manifests.NAME: file_sha256(bundle / manifests.NAME),
    }
    ledger.commit(plan.release_id, "synthetic_release.n25.seed7", hashes, ["image_model"])
    yield ledger
    ledger.close()


def test_a_charged_bundle_agrees_with_its_ledger(bundle: Path, ledger: Ledger) -> None:
    verify(bundle)
    assert require_charged(bundle, ledger) == len(ledger.entries())


def other_privacy(schema: Schema) -> dict[str, Any]:
    """The privacy block of a cheaper release, which is right in itself."""
    plan = make_plan(schema)
    events = plan.events[:1]
    epsilon = accounting.epsilon(events, target_delta=1e-5, discretization=1e-3)
    cheap = Plan.from_json(
        plan.to_json() | {"mechanisms": [plan.mechanisms[0].to_json()], "composed_epsilon": epsilon}
    )
    built = manifests.build(cheap, schema, sampling={"n": 1, "seed": 1}, ledger_head="f" * 64)
    return built["privacy"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda m, s: m.update(privacy=other_privacy(s)), r"privacy\.epsilon"),
        (lambda m, s: m["settings"].update(rounds=4), r"settings\.rounds"),
        (lambda m, s: m.update(code_version="other"), "code_version"),
        (lambda m, s: m.update(population="others"), "population"),
        (lambda m, s: m["data"].update(version="md5-of-other-data"), r"data\.version"),
        (lambda m, s: m.update(ledger_head="e" * 64), "ledger_head"),
        (lambda m, s: m["sampling"].update(n=26), "not committed a bundle"),
        (lambda m, s: m.update(remark="certified"), "remark"),
    ],
)
def test_a_manifest_that_only_the_ledger_refutes(
    bundle: Path, ledger: Ledger, schema: Schema, change: Any, field: str
) -> None:
    """The whole bundle is written again, so that it agrees with itself."""
    rewrite(bundle, lambda m: change(m, schema))
    (bundle / "README.md").write_text(write_card(manifests.read(bundle), schema, QUALITY))
    relist(bundle)
    if field == r"privacy\.epsilon":
        verify(bundle)
    with pytest.raises(ManifestError, match=field):
        require_charged(bundle, ledger)


def test_a_name_and_files_that_were_never_charged(bundle: Path, ledger: Ledger) -> None:
    flip(bundle)
    with pytest.raises(ArtifactAltered):
        require_charged(bundle, ledger)
    rewrite(bundle, lambda m: m.update(release_id="toy-2"))
    with pytest.raises(UnknownRelease):
        require_charged(bundle, ledger)
