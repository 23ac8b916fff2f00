"""A folder of images for each class, optionally inside train/, val/ and test/.

The folders of the parts may also be called training, valid, validation and testing, in any case.
Each file that is not imported is counted with its reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dagster_project.data.images import read_inside
from dagster_project.data.lines import BrokenRow
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
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "heldout",
    "testing": "heldout",
}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_LOOSE = BrokenRow("file outside the folders of the classes")
_NO_CLASS = BrokenRow("file in a folder that is none of the classes")
_LINK = BrokenRow("symbolic link")


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the names of folders; the names of files are read together with the rows.

    Raises:
        WrongArchive: There are not at least two classes, or the person's pattern is wrong.
    """
    parts = parts_of(source)
    tops = parts or [(source, None)]
    classes = request.classes or tuple(_folders(tops[0][0]))
    if len(classes) < 2:
        if any((top / name).exists() for top, _ in tops for name in METADATA):
            raise WrongArchive(
                f"the images in {source} are described by a metadata file and not by folders: "
                "`dptabimage import table` reads it"
            )
        raise WrongArchive(
            f"two or more folders of images, one for each class, were expected in {tops[0][0]}"
        )
    pattern = person_pattern(request.person_id, "--person-id")
    label = request.label_name or "label"

    def rows() -> Iterator[Row | BrokenRow]:
        known = {top.name for top, _ in parts}
        yield from _without_class(source, known if parts else set(classes))
        for top, part in tops:
            if parts:
                yield from _without_class(top, set(classes))
            for folder in classes:
                for name in files_below(top / folder):
                    path = f"{folder}/{name}"
                    yield Row(
                        person=_person(pattern, path, top.name if parts else ""),
                        record={label: folder},
                        image=partial(read_inside, top, path),
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


def parts_of(source: Path) -> list[tuple[Path, Part | None]]:
    """Return the folders train, test, Training, ... in any case; none without one to train on.

    Raises:
        WrongArchive: There is no such folder.
    """
    if not source.is_dir():
        raise WrongArchive(f"there is no folder {source}")
    found = [(source / f, PARTS[f.lower()]) for f in _folders(source) if f.lower() in PARTS]
    found.sort(key=lambda one: list(PARTS).index(one[0].name.lower()))
    return list(found) if any(part == "train" for _, part in found) else []


def _folders(top: Path) -> list[str]:
    with os.scandir(top) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir(follow_symlinks=False) and not _hidden(entry.name)
        )


def _hidden(name: str) -> bool:
    """Whether a name is one of those that systems and archivers leave behind."""
    return name.startswith((".", "__")) or name in ("Thumbs.db", "desktop.ini")


def files_below(top: Path) -> Iterator[str]:
    """Yield the paths, relative to `top`, of all files that are not hidden, at any depth."""
    for place, folders, files in os.walk(top):
        folders[:] = sorted(folder for folder in folders if not _hidden(folder))
        for file in sorted(files):
            if not _hidden(file):
                yield (Path(place) / file).relative_to(top).as_posix()


def _without_class(top: Path, known: set[str]) -> Iterator[BrokenRow]:
    """Yield a broken row for each file in `top` that no known folder holds."""
    with os.scandir(top) as entries:
        beside = [e for e in entries if not _hidden(e.name) and e.name not in known]
    for entry in beside:
        if entry.is_symlink():
            yield _LINK
        elif entry.is_dir():
            yield from (_NO_CLASS for _ in files_below(top / entry.name))
        else:
            yield _LOOSE


def person_pattern(text: str | None, option: str) -> re.Pattern[str] | None:
    """Compile the pattern that finds the person in a file's name: its group, or all of it.

    Raises:
        WrongArchive: It is not a pattern with at most one group.
    """
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error:
        raise WrongArchive(f"{option} {text!r} is not a regular expression") from None
    if pattern.groups > 1:
        raise WrongArchive(f"{option} {text!r} must have at most one group: the person")
    return pattern


def _person(pattern: re.Pattern[str] | None, name: str, part: str) -> str:
    if pattern is None:
        return f"{part}/{name}" if part else name
    return person_in(pattern, name)


def person_in(pattern: re.Pattern[str], name: str) -> str:
    """Return the person that a pattern finds in a file's name, "" if there is none."""
    found = pattern.search(name)
    return found[pattern.groups] if found and found[pattern.groups] else ""
