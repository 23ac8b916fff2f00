"""Which code, packages and commit made a release. Reads source files and git, never data."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE.parent
_STAGE_CODE = (
    "privacy",
    "table",
    "pairs",
    "image",
    "stages",
    "recipe.py",
    "mechanisms.py",
    "planning.py",
)


@cache
def code_version(*parts: str) -> str:
    """A short hash of the source of the named packages or files (default: all that a release
    runs), so that a change of a mechanism shows as a change of version."""
    digest = hashlib.sha256()
    for part in parts or _STAGE_CODE:
        place = _PACKAGE / part
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(file.relative_to(_PACKAGE).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def git_facts() -> dict[str, str | bool]:
    """Commit and whether the working tree differs from it; empty outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": bool(git("status", "-s"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def lock_hash() -> str | None:
    """SHA-256 of the lock file, None where the package runs without its checkout."""
    lock = _ROOT / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None
