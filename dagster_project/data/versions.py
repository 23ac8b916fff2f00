"""The version of the data in a folder, found without reading a record.

Under DVC the version is the md5 in the `.dvc` file beside the folder, which is read as YAML without
importing DVC. Hashing the content does not belong here, because that reads every record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class VersionError(ValueError):
    """The folder does not hold the version that its `.dvc` file names."""


@dataclass(frozen=True)
class DataVersion:
    """A version of the data.

    Attributes:
        text: "md5:..." under DVC, otherwise "listing:..." of names, sizes and times.
        tracked: Whether DVC keeps this version, so that it can be restored.
    """

    text: str
    tracked: bool


def recorded_version(data_dir: Path) -> str | None:
    """Return the version named by the folder's `.dvc` file, or None without one.

    The content of the folder is not looked at.

    Raises:
        VersionError: The pointer is unreadable.
    """
    pointer = _pointer(data_dir)
    return f"md5:{_content(pointer)['md5']}" if pointer.is_file() else None


def data_version(data_dir: Path) -> DataVersion:
    """Return the version of a data folder.

    Args:
        data_dir: The folder; its pointer is `<folder>.dvc` beside it.

    Raises:
        VersionError: The folder is missing, the pointer is unreadable, or the number or size of the
            files on disk is not the pointer's.
    """
    pointer = _pointer(data_dir)
    if not data_dir.is_dir():
        hint = ": run `dvc pull`" if pointer.is_file() else ""
        raise VersionError(f"the data folder {data_dir} does not exist{hint}")
    files = sorted(p for p in data_dir.rglob("*") if p.is_file())
    if not pointer.is_file():
        listing = "\n".join(
            f"{p.relative_to(data_dir).as_posix()} {p.stat().st_size} {p.stat().st_mtime_ns}"
            for p in files
        )
        digest = hashlib.sha256(listing.encode()).hexdigest()
        return DataVersion(f"listing:{digest[:32]}", tracked=False)
    out = _content(pointer)
    size, number = out.get("size"), out.get("nfiles")
    found = (sum(p.stat().st_size for p in files), len(files))
    if found != (size or found[0], number or found[1]):
        raise VersionError(
            f"{data_dir.name}/ is not the version in {pointer.name}: run `dvc checkout` to get "
            f"that version back, or `dvc add {data_dir.name}` to make this one the new version"
        )
    return DataVersion(f"md5:{out['md5']}", tracked=True)


def _pointer(data_dir: Path) -> Path:
    return data_dir.with_name(data_dir.name + ".dvc")


def _content(pointer: Path) -> Mapping[str, Any]:
    try:
        out = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]
        return out | {"md5": str(out["md5"])}
    except (OSError, KeyError, IndexError, TypeError, yaml.YAMLError):
        raise VersionError(f"{pointer.name} is not a DVC pointer with an md5") from None
