"""A folder of images for each class, optionally inside train/, val/ and test/."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dagster_project.data.images import read_inside
from dagster_project.importers.archive import (
    Archive,
    ImportRequest,
    Part,
    Row,
    WrongArchive,
    categorical,
)

PARTS: dict[str, Part] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "heldout",
}
_SUFFIXES = (".png", ".jpg", ".jpeg")


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the names of folders; the names of files are read together with the rows.

    Raises:
        WrongArchive: There are not at least two classes, or the person's pattern is wrong.
    """
    if not source.is_dir():
        raise WrongArchive(f"there is no folder {source}")
    split = (source / "train").is_dir()
    tops: list[tuple[Path, Part | None]] = [(source, None)]
    if split:
        tops = [(source / name, part) for name, part in PARTS.items() if (source / name).is_dir()]
    classes = request.classes or tuple(_folders(tops[0][0]))
    if len(classes) < 2:
        raise WrongArchive(
            f"two or more folders of images, one for each class, were expected in {tops[0][0]}"
        )
    pattern = _pattern(request.person_id)
    label = request.label_name or "label"

    def rows() -> Iterator[Row]:
        for top, part in tops:
            for folder in _folders(top):
                for name in _images(top, folder):
                    yield Row(
                        person=_person(pattern, name, top.name if split else ""),
                        record={label: folder},
                        image=partial(read_inside, top, name),
                        part=part,
                    )

    return Archive(
        attributes={label: categorical(classes)},
        channels=request.channels or 3,
        size=request.size or (32, 32),
        rows=rows,
        about=(
            f"From a folder of images for each class. The classes of {label} are "
            + (
                "as stated." if request.classes else "the folders' names, which are thereby public."
            ),
            "The person is what the given pattern finds in an image's path."
            if pattern
            else "Each image counts as a person.",
        ),
    )


def _folders(top: Path) -> list[str]:
    with os.scandir(top) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "__"))
        )


def _images(top: Path, folder: str) -> Iterator[str]:
    """Yield the paths, relative to `top`, of one class's images, at any depth."""
    for place, folders, files in os.walk(top / folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(_SUFFIXES):
                yield (Path(place) / file).relative_to(top).as_posix()


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error:
        raise WrongArchive(f"--person-id {text!r} is not a regular expression") from None
    if pattern.groups > 1:
        raise WrongArchive(f"--person-id {text!r} must have at most one group: the person")
    return pattern


def _person(pattern: re.Pattern[str] | None, name: str, part: str) -> str:
    if pattern is None:
        return f"{part}/{name}" if part else name
    found = pattern.search(name)
    return found[pattern.groups] if found and found[pattern.groups] else ""
