"""Verification of a bundle: by itself, and against the ledger that was charged for it.

By itself a bundle shows that its files are those of its manifest, that its events cost what is
claimed, and that its card says what the manifest says. Only the ledger shows that these events are
the ones that were charged for this release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.data.schema import Schema, SchemaError
from dagster_project.ledger.files import file_sha256
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest as manifests
from dagster_project.release.card import write_card
from dagster_project.release.manifest import NAME, ManifestError

if TYPE_CHECKING:
    from dagster_project.ledger import Ledger

CARD = "README.md"
QUALITY = "quality.json"
TOLERANCE = 1e-6
# What the environment and the bundle add to a manifest; all else follows from plan and sampling.
_OWN = ("packages", "files")


@dataclass(frozen=True)
class Verified:
    """The guarantee and the number of files of a bundle that passed `verify`.

    Attributes:
        true_positives: The largest true-positive rate of a membership test, by false-positive rate.
    """

    release_id: str
    population: str
    epsilon: float
    delta: float
    true_positives: Mapping[float, float]
    files: int


def verify(folder: str | Path) -> Verified:
    """Check a bundle by itself: files, cost of the events, card.

    Epsilon and the trade-off curve are composed again from the recorded events on the recorded grid
    and must agree to within 1e-6. The card is written again from the manifest and must agree byte
    for byte.

    Raises:
        ManifestError: If something does not agree.
    """
    folder = Path(folder)
    manifest = manifests.read(folder)
    files = _require_files(folder, manifest)
    found = _require_guarantee(manifest, files)
    _require_card(folder, manifest)
    return found


def require_charged(folder: str | Path, ledger: Ledger) -> int:
    """Check a bundle against the ledger: the manifest is written again from the plan that was
    charged, and every file must be the one that was committed.

    Returns:
        Number of the ledger entry that committed the bundle.

    Raises:
        ManifestError: If the manifest states anything that the plan does not.
        LedgerError: If the ledger does not know the release, or a file is not the committed one.
    """
    folder = Path(folder)
    manifest = manifests.read(folder)
    release = ledger.release(str(manifest.get("release_id")))
    plan = Plan.from_json(release.plan)
    expected = _json(
        manifests.build(
            plan,
            _schema(manifest, plan.schema_hash),
            sampling=_mapping(manifest, "sampling"),
            ledger_head=str(manifest.get("ledger_head")),
            public_images=manifest.get("public_images"),
        )
    )
    # `verify` holds the curve against the events, to within rounding.
    expected["privacy"]["trade_off"] = _mapping(manifest, "privacy").get("trade_off")
    for name in sorted((expected.keys() | manifest.keys()) - {*_OWN}):
        if expected.get(name) != manifest.get(name):
            raise ManifestError(
                f"{_differing(name, manifest.get(name), expected.get(name))} in {NAME} is not what "
                f"the ledger charged for release {plan.release_id}."
            )
    if manifest["ledger_head"] not in {entry.hash for entry in ledger.entries()}:
        raise ManifestError(f"The ledger_head in {NAME} is not in the ledger.")
    digest = file_sha256(folder / NAME)
    for stage, known in release.stages.items():
        if known.artifacts is not None and known.artifacts.files.get(NAME) == digest:
            return ledger.verify_artifacts(plan.release_id, stage, folder).entry
    raise ManifestError(f"The ledger has not committed a bundle with this {NAME}.")


def _require_files(folder: Path, manifest: Mapping[str, Any]) -> int:
    listed, found = manifest.get("files"), manifests.file_hashes(folder)
    if not isinstance(listed, dict) or not listed:
        raise ManifestError(f"{NAME} lists no files.")
    for state, names in (
        ("missing", listed.keys() - found.keys()),
        ("not listed in the manifest", found.keys() - listed.keys()),
        ("altered", {name for name in listed.keys() & found.keys() if listed[name] != found[name]}),
    ):
        if names:
            raise ManifestError(f"{len(names)} file(s) {state}: {', '.join(sorted(names)[:3])}.")
    return len(listed)


def _require_guarantee(manifest: Mapping[str, Any], files: int) -> Verified:
    from dagster_project.privacy import accounting

    recorded = manifests.recorded_events(manifest)
    privacy = manifest["privacy"]
    try:
        claimed, delta = float(privacy["epsilon"]), float(privacy["delta"])
        grid = float(privacy["discretization"])
        composed = accounting.epsilon(recorded, target_delta=delta, discretization=grid)
        curve = {
            p["false_positives"]: p["true_positives"] for p in manifests.trade_off(recorded, grid)
        }
        stated = {p["false_positives"]: p["true_positives"] for p in privacy["trade_off"]}
        agree = stated.keys() == curve.keys() and all(
            abs(stated[rate] - power) <= TOLERANCE for rate, power in curve.items()
        )
        release_id, population = str(manifest["release_id"]), str(manifest["population"])
    except (KeyError, TypeError, ValueError):
        raise ManifestError(f"The privacy guarantee in {NAME} cannot be read.") from None
    if not abs(composed - claimed) <= TOLERANCE:
        raise ManifestError(
            f"The recorded events compose to epsilon {composed:.6f}, not to {claimed:.6f}."
        )
    if not agree:
        raise ManifestError("The recorded events do not have the stated trade-off curve.")
    return Verified(
        release_id=release_id,
        population=population,
        epsilon=composed,
        delta=delta,
        true_positives=curve,
        files=files,
    )


def _require_card(folder: Path, manifest: Mapping[str, Any]) -> None:
    schema = _schema(manifest, manifest.get("schema_hash"))
    try:
        quality = json.loads((folder / QUALITY).read_text(encoding="utf-8"))
        expected = write_card(manifest, schema, quality)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ManifestError(f"No card follows from {NAME} and {QUALITY}.") from None
    try:
        card = (folder / CARD).read_bytes()
    except OSError:
        raise ManifestError(f"There is no card {CARD}.") from None
    written = expected.encode()
    if card != written:
        pairs = zip(card.splitlines(), written.splitlines(), strict=False)
        shared = min(len(card.splitlines()), len(written.splitlines()))
        line = next((i for i, (a, b) in enumerate(pairs) if a != b), shared) + 1
        raise ManifestError(
            f"Line {line} of the card {CARD} is not what {NAME} says, as this version of the "
            "software writes it."
        )


def _schema(manifest: Mapping[str, Any], expected: Any) -> Schema:
    try:
        schema = Schema.from_dict(_mapping(manifest, "schema"))
    except SchemaError:
        raise ManifestError(f"The schema in {NAME} cannot be read.") from None
    if schema.hash != expected:
        raise ManifestError(f"The schema in {NAME} is not the one that the release was made for.")
    return schema


def _mapping(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = manifest.get(name)
    if not isinstance(value, Mapping):
        raise ManifestError(f"{name} is missing in {NAME}.")
    return value


def _differing(name: str, stated: Any, charged: Any) -> str:
    """Return the dotted name of the first field that differs."""
    if isinstance(stated, Mapping) and isinstance(charged, Mapping):
        for key in sorted(stated.keys() | charged.keys()):
            if stated.get(key) != charged.get(key):
                return f"{name}.{key}"
    return name


def _json(value: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(value))
