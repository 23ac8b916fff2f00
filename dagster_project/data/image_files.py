"""The file of a row's image: its name by the public schema, and its bytes, from one folder alone.

A row leads to its file by its own name and the schema, and no other row has a say. Where a name is
not on disk as the table spells it, it may be there in another Unicode form (macOS decomposes
accents) or with its ending in another case; both are tried in a fixed order. Names must stay inside
their folder, and no link is followed except into the cache that the schema declares.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dagster_project.data.image_faults import Reason, UnusableImage
from dagster_project.data.image_rules import PLACE
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.persons import canonical_id

MAX_BYTES = 32 * 2**20
# Causes that no name can have. They would drop one person's row on one machine and not on another.
_MACHINE_FAILS = {
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
}  # fmt: skip


def file_name(folder: Path, cell: object, spec: ImageSpec, *, pattern: str) -> str | None:
    """Return the name of the file in `folder` to which a cell leads.

    Args:
        folder: The folder of images.
        cell: What the table holds: text or a number; None if absent.
        spec: How names are made.
        pattern: The pattern that holds unless the schema states others.

    Returns:
        The first possible name of an existing file, otherwise the first possible name; None if the
        cell is absent. The name may lead out of the folder, which `read_inside` refuses.
    """
    name = cell.strip() if isinstance(cell, str) else canonical_id(cell)
    if not name:
        return None
    name = _without_prefix(name, spec)
    names = [_filled(one, name) for one in spec.file or (pattern,)]
    for wanted in names:
        for spelling in _spellings(wanted):
            if not fault_of(spelling) and os.path.lexists(folder / spelling):
                return spelling
    return names[0]


def read_inside(
    folder: Path, name: str | None, *, limit: int = MAX_BYTES, cache: Path | None = None
) -> bytes:
    """Return the bytes of the regular file `name` inside `folder`.

    Args:
        folder: The folder.
        name: The path relative to it.
        limit: The size in bytes above which a file is not read.
        cache: The folder into which a file may be a link, with all links on its path resolved.

    Raises:
        UnusableImage: There is no such file, it is too large or another link, or the name leaves
            the folder.
        OSError: The machine fails, not the row: its disk, its mount or its memory.
    """
    if not name or not (parts := PurePosixPath(name).parts):
        raise UnusableImage(Reason.NOT_NAMED)
    if fault := fault_of(name):
        raise UnusableImage(fault)
    path = folder
    try:
        for place, part in enumerate(parts, 1):
            path = path / part
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                path = _linked(path, cache if place == len(parts) else None)
                status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise UnusableImage(Reason.NOT_A_FILE)
        if status.st_size > limit:
            raise UnusableImage(Reason.BYTES)
        return path.read_bytes()
    except PermissionError:
        raise UnusableImage(Reason.NOT_OPENED) from None
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno in _MACHINE_FAILS:
            raise
        raise UnusableImage(Reason.NO_FILE) from None


def leads_into(link: Path, cache: Path | None) -> bool:
    """Return whether a link ends at a path inside the cache."""
    return cache is not None and Path(os.path.realpath(link)).is_relative_to(cache)


def _linked(link: Path, cache: Path | None) -> Path:
    """Return where a link ends, with no link left on its path."""
    if cache is None:
        raise UnusableImage(Reason.LINK)
    if not leads_into(link, cache):
        raise UnusableImage(Reason.LINK_OUTSIDE)
    return Path(os.path.realpath(link))


def fault_of(name: str) -> Reason | None:
    """Return why a name may not be followed, or None."""
    if "\\" in name:
        return Reason.BACKSLASH
    parts = PurePosixPath(name).parts
    if "\0" in name or ".." in parts or parts[:1] == ("/",) or parts[:1] == ("//",):
        return Reason.LEAVES
    return None


def _without_prefix(name: str, spec: ImageSpec) -> str:
    prefix = spec.strip_prefix
    if spec.separator != "/":
        name, prefix = name.replace(spec.separator, "/"), prefix.replace(spec.separator, "/")
    if not prefix:
        return name
    prefix = prefix.rstrip("/") + "/"
    return name.removeprefix(prefix).lstrip("/") if name.startswith(prefix) else name


def _filled(pattern: str, name: str) -> str:
    """Return the pattern with the name in its places.

    >>> _filled("{name:5}.png", "12"), _filled("{stem}.jpg", "a/b.dcm")
    ('00012.png', 'a/b.jpg')
    """
    path = PurePosixPath(name)
    texts = {"name": name, "stem": name.removesuffix(path.suffix)}

    def fill(place: re.Match[str]) -> str:
        which, form = place.group(1), place.group(2)
        text = texts[which]
        if form in ("lower", "upper"):
            return text.lower() if form == "lower" else text.upper()
        return text.zfill(int(form or 0))

    return PLACE.sub(fill, pattern)


def _spellings(name: str) -> Iterator[str]:
    """Yield the name, then with its ending in lower and upper case and capitalised (.Dcm), in each
    Unicode form."""
    ending = PurePosixPath(name).suffix
    stem = name.removesuffix(ending)
    cased = (ending, ending.lower(), ending.upper(), ending.title())
    for spelled in dict.fromkeys(stem + one for one in cased):
        yield spelled
        yield unicodedata.normalize("NFC", spelled)
        yield unicodedata.normalize("NFD", spelled)
