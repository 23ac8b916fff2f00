"""Committed files: their names, and whether they are unaltered."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from dagster_project.ledger.errors import ArtifactAltered, ConformanceError
from dagster_project.ledger.records import Artifacts


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def require_listed(stage: str, artifacts: Mapping[str, str]) -> dict[str, str]:
    """Check a stage's list of files: relative paths, full hashes, at least one file.

    Raises:
        ConformanceError: The list does not comply.
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
    """Compare every committed file under `root` with what was committed.

    Raises:
        ArtifactAltered: A file is missing, is a link, or has another content.
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
