"""On-disk cache of work that trials share, keyed by what the work was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from dagster_project.privacy.plan import canonical_hash


def shared(
    cache: Path, kind: str, made_from: Mapping[str, Any], make: Callable[[Path], None]
) -> Path:
    """Return the folder of a piece of shared work, and create it if it does not exist.

    If several processes call this at once, one does the work and the others wait. A killed process
    leaves nothing that could pass for finished work.

    Args:
        cache: Folder of all shared work.
        kind: Prefix of the folder's name.
        made_from: Everything that determines the content, as JSON.
        make: Callable that fills the given folder.
    """
    folder = cache / f"{kind}-{canonical_hash(dict(made_from))[:16]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            pending = folder.with_name(f"{folder.name}.pending")
            shutil.rmtree(pending, ignore_errors=True)
            pending.mkdir()
            make(pending)
            pending.rename(folder)
    return folder
