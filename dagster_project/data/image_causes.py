"""Why the images of many rows are not found or look alike, for the steward's check. All private.

How a row's image is found belongs to `image_files`. What is proposed here was tried on the names
that were not found.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from dagster_project.data.image_files import fault_of, file_name
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.persons import canonical_id

_TRIED = 5  # names for which files are looked for
_FEW = 10  # pictures from which on their common shade says something


def unnamed(folder: Path, named: Collection[str]) -> list[str]:
    """Return the files in the folder of images that no row names."""
    lying = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    names = (str(path.relative_to(folder)) for path in lying)
    return [name for name in names if name not in named]


def unnamed_note(folder: Path, unused: Sequence[str]) -> str | None:
    """Say which images no row names, or that there is no image; None if rows name all of them."""
    if not any(folder.iterdir()):
        return "the folder is empty."
    if not unused:
        return None
    shown = ", ".join(f"{name!r:.80}" for name in unused[:3])
    many = f"{len(unused):,} images, such as {shown}" if len(unused) > 1 else f"the image {shown}"
    return f"no row names {many}."


def name_cause(
    folder: Path, cells: Sequence[object], unused: Sequence[str], spec: ImageSpec, *, pattern: str
) -> str | None:
    """Return the lines of the schema by which most names would be found, or None.

    Args:
        folder: The folder of images.
        cells: What the table holds where no image was found.
        unused: The files that no row names.
        spec: How names are made.
        pattern: The pattern that holds unless the schema states others.
    """
    if len(cells) < 2:
        return None
    files: dict[str, list[str]] = defaultdict(list)
    for path in unused:
        files[_key(PurePosixPath(path).stem)].append(path)
        files[_key(PurePosixPath(path).name)].append(path)
    changes = {
        tuple(sorted(change.items()))
        for cell in cells[:_TRIED]
        if (name := canonical_id(cell))
        for key in (_key(_base(name)), _key(PurePosixPath(_base(name)).stem))
        for path in files[key][:_TRIED]
        if (change := _change(name, path))
    }
    best, found = max(
        ((change, _found(folder, cells, spec, change, pattern)) for change in changes),
        key=lambda item: (item[1], -len(item[0])),
        default=((), 0),
    )
    if 2 * found < len(cells):
        return None
    stated = ", ".join(
        f"{key}: {_patterns(value, spec, pattern) if key == 'file' else _quoted(value)}"
        for key, value in best
    )
    return (
        f"images: {found:,} of {len(cells):,} names that lead to no file would lead to one with "
        f"`image: {{{stated}}}`: state this beside what `image` has."
    )


def shade_cause(shades: Mapping[bool, int], spec: ImageSpec) -> str | None:
    """Say that most pictures are black or white, which a wrong window does; None if they are not.

    Args:
        shades: How many pictures are all black or all white (True), and how many are not.
        spec: How pictures are read.
    """
    alone, many = shades[True], shades[True] + shades[False]
    if alone < _FEW or 2 * alone < many:
        return None
    window = f" after `image.window` {spec.window}, which may not suit them" if spec.window else ""
    return f"images: {alone:,} of {many:,} pictures are all black or all white{window}."


def shared_cause(owners: Mapping[str, set[str]]) -> str | None:
    """Say that rows of different people name the same file; None if none do."""
    shared = {name: people for name, people in owners.items() if len(people) > 1}
    if not shared:
        return None
    name, people = next(iter(shared.items()))
    return (
        f"images: {name!r:.80} (and {len(shared) - 1:,} others) is named by rows of several "
        f"people, here {len(people):,}: who is in such a picture is protected less than promised."
    )


def _patterns(new: str, spec: ImageSpec, pattern: str) -> str:
    """Return the patterns of names with a new one, so that what is found stays found."""
    return f"[{', '.join(map(_quoted, (*(spec.file or (pattern,)), new)))}]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _key(name: str) -> str:
    return name.casefold().lstrip("0")


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _change(name: str, path: str) -> dict[str, str]:
    """Return what would have to be stated for a name to lead to a path; empty if nothing does."""
    separator = "\\" if "\\" in name else "/"
    *above, base = name.split(separator)
    *folders, file = path.split("/")
    while above and folders and above[-1] == folders[-1]:
        above.pop(), folders.pop()
    change = {"separator": separator} if separator != "/" else {}
    if above:
        change["strip_prefix"] = separator.join(above)
    place = _place(base, file)
    if place is None:
        return {}
    if folders or place != "{name}":
        change["file"] = "/".join([*folders, place])
    return change


def _place(base: str, file: str) -> str | None:
    """Return the pattern that makes a file's name from a name in the table."""
    stem, (wanted, ending) = PurePosixPath(base).stem, os.path.splitext(file)
    if file.startswith(base):
        return "{name}" + file[len(base) :]
    for kind, text in (("name", base), ("stem", stem)):
        whole, tail = (file, "") if kind == "name" else (wanted, ending)
        if text == whole:
            return f"{{{kind}}}{tail}"
        for form in ("lower", "upper"):
            if getattr(text, form)() == whole:
                return f"{{{kind}:{form}}}{tail}"
        if text.zfill(len(wanted)) == wanted:
            return f"{{{kind}:{len(wanted)}}}{ending}"
    return None


def _found(
    folder: Path,
    cells: Iterable[object],
    spec: ImageSpec,
    change: Sequence[tuple[str, str]],
    pattern: str,
) -> int:
    fields: dict[str, Any] = dict(change)
    file = (*(spec.file or (pattern,)), fields.pop("file")) if "file" in fields else spec.file
    tried = replace(spec, **fields, file=file)
    names = (file_name(folder, cell, tried, pattern=pattern) for cell in cells)
    return sum(
        bool(name) and fault_of(name) is None and os.path.isfile(folder / name)
        for name in names
        if name
    )
