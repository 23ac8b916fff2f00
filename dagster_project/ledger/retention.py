"""Deletion of a release's private zone, and what remains of the release.

The ledger forgets nothing: deleting records returns no budget.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster_project.ledger import Ledger
from dagster_project.ledger.records import ReleaseRecord

NOTE = "private_zone"


@dataclass(frozen=True, kw_only=True)
class Purge:
    """The result of a purge of one release.

    Attributes:
        files: Number of files deleted.
        remains: What still exists of the release, one line each.
    """

    release_id: str
    files: int
    remains: tuple[str, ...]


def expired(ledger: Ledger, root: Path, *, days: float) -> list[str]:
    """Return the releases reserved more than `days` ago whose private zone still exists."""
    limit = datetime.now(UTC) - timedelta(days=days)
    return [
        release.release_id
        for release in ledger.releases().values()
        if datetime.fromisoformat(release.at) < limit
        and (root / "private" / release.release_id).exists()
    ]


def purge(ledger: Ledger, root: Path, release_id: str) -> Purge:
    """Delete `private/<id>` and note it in the ledger; deleting again changes nothing.

    A release that is not complete cannot continue afterwards, and stays spent.

    Raises:
        UnknownRelease: The ledger has no such release.
    """
    release = ledger.release(release_id)  # also keeps the path inside `private`
    folder = root / "private" / release_id
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    if folder.exists():
        shutil.rmtree(folder)
    # Noted only afterwards: a note must never claim a deletion that a crash prevented.
    if not any(fact.get(NOTE) == "purged" for fact in release.facts):
        ledger.attach(release_id, **{NOTE: "purged"})
    return Purge(release_id=release_id, files=files, remains=tuple(_remains(release, root)))


def purge_errors(root: Path, *, days: float) -> int:
    """Delete private tracebacks older than `days`; return how many."""
    limit = time.time() - days * 86400
    old = [p for p in (root / "private" / "errors").glob("*.txt") if p.stat().st_mtime < limit]
    for path in old:
        path.unlink()
    return len(old)


def _remains(release: ReleaseRecord, root: Path) -> Iterator[str]:
    name = release.release_id
    if (root / "models" / name).exists():
        yield f"models/{name}: differentially private"
    for bundle in sorted((root / "releases").glob(f"{name}*")):
        yield f"releases/{bundle.name}: public"
    yield f"the ledger's entries from {release.entry} on: what was spent stays spent"
    run = next((fact["mlflow_run"] for fact in release.facts if "mlflow_run" in fact), None)
    if run is not None:
        yield f"MLflow run {run}: may hold figures of the private report"
    if (root / ".dagster").exists():
        yield ".dagster: Dagster's events of its runs"
    yield "the data itself, its DVC cache and remote, and every backup"
