"""What every format gives: an archive that was looked at, and a stream of its rows.

Opening an archive reads names, headers and labels, never a picture, and refuses in one sentence
what is not such an archive. Where the rows go is decided in `writing`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from dagster_project.data.lines import BrokenRow

Part = Literal["train", "validation", "heldout"]
Size = tuple[int, int]  # height, width


class WrongArchive(ValueError):
    """The source is not such an archive; one sentence says what was expected where."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pair on its way in.

    Attributes:
        person: Who it belongs to.
        record: A value, or None, for each attribute.
        image: Gives the bytes of the picture's file; may raise UnusableImage. It is called
            once, perhaps in another thread.
        part: Where the row belongs, None where the archive knows no parts.
    """

    person: str
    record: Mapping[str, object]
    image: Callable[[], object]
    part: Part | None = None


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive that was looked at.

    Attributes:
        attributes: The schema's attributes, as in schema.yaml.
        channels, size: Of the pictures to be written.
        rows: Starts the stream of rows; one that cannot be read is a `BrokenRow` and is left out.
        name: Of the data set, if it has one.
        total: About how many rows there are, for a progress bar.
        documented: How many people train according to the data set's documentation, if it says.
        about: Sentences on where all this comes from, for the schema's comment.
    """

    attributes: Mapping[str, Mapping[str, Any]]
    channels: int
    size: Size
    rows: Callable[[], Iterator[Row | BrokenRow]]
    name: str | None = None
    total: int | None = None
    documented: int | None = None
    about: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What the user asks of an import; None leaves it to the format.

    Attributes:
        size, channels: Of the pictures to be written.
        name: The schema's name.
        public: Whether the user states that the data itself is public.
        n_public: A rough number of people that may be known.
        validation: What becomes of a validation part: "drop" (left out), "train" or "heldout".
        workers: Threads that decode.
        unit: Whether a "person" or each single "image" is what privacy protects.
        attributes: Which of a data set's attributes to keep.
        label_name, classes: The name of a class label and of its classes, in label order.
        person_id: A column, or a pattern on file names, that names the person.
        image_column: The column with the pictures.
    """

    size: Size | None = None
    channels: int | None = None
    name: str | None = None
    public: bool = False
    n_public: int | None = None
    validation: Literal["drop", "train", "heldout"] = "drop"
    workers: int = 1
    unit: Literal["person", "image"] | None = None
    attributes: tuple[str, ...] | None = None
    label_name: str | None = None
    classes: tuple[str, ...] | None = None
    person_id: str | None = None
    image_column: str | None = None


YES_NO: dict[str, Any] = {"kind": "categorical", "categories": ["no", "yes"]}


def categorical(categories: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """The schema's entry of a categorical attribute."""
    return {"kind": "categorical", "categories": list(categories)}


def find(source: Path, *places: str, what: str) -> Path:
    """The first of some places below the source that exists.

    Raises:
        WrongArchive: None of them does.
    """
    if not source.is_dir():
        raise WrongArchive(f"there is no folder {source}")
    for place in places:
        if (source / place).exists():
            return source / place
    raise WrongArchive(f"{what} was expected at {' or '.join(places)} in {source}")


def part_of(group: str) -> Part:
    """Which part a group of pictures that belong together is in: 7 : 1 : 2, by a public hash.

    The same everywhere and in every version of the data; no seed, no order of files.
    """
    digest = hashlib.sha256(f"7:1:2 {group}".encode("utf-8", "surrogatepass")).digest()
    tenth = 10 * int.from_bytes(digest[:8], "big") // 2**64
    return "train" if tenth < 7 else "validation" if tenth < 8 else "heldout"


def chosen(
    known: Mapping[str, Mapping[str, Any]],
    default: tuple[str, ...],
    asked: tuple[str, ...] | None,
) -> dict[str, Mapping[str, Any]]:
    """The attributes asked for, else the default ones, in that order.

    Raises:
        WrongArchive: One of them is unknown.
    """
    names = asked or default
    if unknown := [name for name in names if name not in known]:
        raise WrongArchive(f"there is no attribute {unknown[0]!r}; known are {', '.join(known)}")
    return {name: known[name] for name in names}


def classes_of(labels: np.ndarray, request: ImportRequest) -> tuple[str, ...]:
    """Names of the classes of integer labels (N,): the stated ones, else the labels found.

    Raises:
        WrongArchive: None are stated, and data that is not public must not show its own.
    """
    if request.classes:
        return request.classes
    if not request.public:
        raise WrongArchive(
            "--classes is needed: the names of the labels 0, 1, ... as they may be known (or "
            "--public, where the data itself is public)"
        )
    return tuple(str(label) for label in np.unique(labels))


def class_name(label: int, request: ImportRequest) -> str | None:
    """The class of a label; None where the stated classes do not know it."""
    if not request.classes:
        return str(label)
    return request.classes[label] if 0 <= label < len(request.classes) else None


def native(height: int, width: int, request: ImportRequest) -> Size:
    """The size asked for, else the pictures' own within the bounds of a schema (8 to 64)."""
    return request.size or (min(max(height, 8), 64), min(max(width, 8), 64))


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels, uint8 (H, W) or (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
