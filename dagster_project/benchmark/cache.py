"""Work that several trials share, made once on disk and found by what it was made from."""

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
    """The folder of a piece of shared work; made now if nobody has.

    Several processes may ask at once: one makes it, the others wait. A process that is killed
    leaves nothing that is taken for finished.

    Args:
        cache: Folder of all shared work.
        kind: First part of the folder's name.
        made_from: Everything that decides the content, as JSON.
        make: Fills the folder it is given.
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
