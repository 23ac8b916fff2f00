"""Committed files: how they are named, and whether they are still what was committed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dagster_project.ledger.errors import ArtifactAltered, ConformanceError
from dagster_project.ledger.records import Artifacts


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_listed(stage: str, artifacts: Mapping[str, str]) -> dict[str, str]:
    """A stage's list of files, checked: relative paths, full hashes, at least one file.

    Raises:
        ConformanceError: it is not such a list.
    """
    listed = {}
    for path, sha256 in artifacts.items():
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path:
            raise ConformanceError(f"artifact path {path!r} must be relative, without '..'")
        if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
            raise ConformanceError(f"artifact {path!r} needs its SHA-256 in hexadecimal")
        listed[str(pure)] = sha256
    if not listed:
        raise ConformanceError(f"stage {stage!r} made no file to commit")
    return listed


def require_unaltered(artifacts: Artifacts, root: Path) -> None:
    """Compares every committed file under `root` with what was committed.

    Raises:
        ArtifactAltered: one is missing, a link, or has another content.
    """
    for relative, expected in artifacts.files.items():
        path = root / relative
        if path.is_symlink() or not path.is_file():
            what = "missing"
        elif file_sha256(path) != expected:
            what = "altered"
        else:
            continue
        raise ArtifactAltered(
            f"{relative} of stage {artifacts.stage!r} of release {artifacts.release_id!r} is "
            f"{what}: restore it, since it cannot be drawn again"
        )
