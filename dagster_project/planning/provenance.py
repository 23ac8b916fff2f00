"""The code, packages and commit that made a release. Reads source files and git, never data."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from dagster_project.planning.source_tree import SourceTree

_NAME = __name__.partition(".")[0]
_PACKAGE = Path(__file__).parents[1]
_ROOT = _PACKAGE.parent

LEDGER = f"{_NAME}.ledger"
# The ledger and the orchestration decide whether and when a stage runs, and this module describes
# it; none of them affects what the stage computes. A change in the ledger's storage must not turn a
# crashed release into a new one that is charged again. The planner and the accountant, which
# determine the noise and its cost, do count.
NOT_FOLLOWED = (
    LEDGER,
    f"{_NAME}.orchestration.assets",
    f"{_NAME}.orchestration.resources",
    __name__,
)


def source_tree(package: Path = _PACKAGE) -> SourceTree:
    """Return the source of this package, or of a copy of it."""
    return SourceTree(package, not_followed=NOT_FOLLOWED)


@cache
def code_version(*modules: str) -> str:
    """Return a short hash of the code that the given modules run.

    The code is found by following imports (see `SourceTree`), except those of `NOT_FOLLOWED`. A
    change in any module that a stage uses changes the stage's version; changes in comments,
    docstrings, audits and commands do not.

    Args:
        modules: Full dotted names, such as "dagster_project.pipeline.mean_pairs" or `__name__`.

    Raises:
        ValueError: If there is no such module.
    """
    return _own_tree().version(*modules)


@cache
def _own_tree() -> SourceTree:
    return source_tree()


def git_facts() -> dict[str, str | bool]:
    """Return the commit and whether the working tree differs; empty outside a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"git_commit": git("rev-parse", "HEAD"), "git_dirty": bool(git("status", "-s"))}
    except (OSError, subprocess.CalledProcessError):
        return {}


def lock_hash() -> str | None:
    """Return the SHA-256 of the lock file, or None if the package runs without its checkout."""
    lock = _ROOT / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None
