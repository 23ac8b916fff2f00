"""What every format provides: an inspected archive and a stream of its rows.

Opening an archive reads names, headers and labels, never an image, and refuses anything that is
not such an archive in one sentence. `writing` decides where the rows go.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from dagster_project.data.lines import BrokenRow
from dagster_project.data.schema import ImageSpec

Part = Literal["train", "validation", "heldout"]
Size = tuple[int, int]  # height, width


class WrongArchive(ValueError):
    """The source is not such an archive; the message says what was expected where."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pair to be imported.

    Attributes:
        person: The person it belongs to.
        record: A value, or None, for each attribute.
        image: Returns the bytes of the image's file; may raise UnusableImage. It is called once,
            perhaps in another thread.
        part: The part it belongs to, None if the archive has no parts.
    """

    person: str
    record: Mapping[str, object]
    image: Callable[[], object]
    part: Part | None = None


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An inspected archive.

    Attributes:
        attributes: The schema's attributes, as in schema.yaml.
        channels, size: Channels and (height, width) of the images to write.
        rows: Starts the stream of rows; one that cannot be read is a `BrokenRow` and is left out.
        name: Name of the data set, if it has one.
        total: Approximate number of rows, for a progress bar.
        documented: Number of training people in the data set's documentation, if it says so.
        about: Sentences on the origin of all this, for the schema's comment.
        public: Whether the data was declared public elsewhere than in the request.
        types: Arrow types of attributes; by default numbers are float64 and the rest is text.
        decoding: How images are read, if not in the schema's plain way.
        more: Further entries of schema.yaml.
    """

    attributes: Mapping[str, Mapping[str, Any]]
    channels: int
    size: Size
    rows: Callable[[], Iterator[Row | BrokenRow]]
    name: str | None = None
    total: int | None = None
    documented: int | None = None
    about: tuple[str, ...] = ()
    public: bool = False
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    decoding: ImageSpec | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """The user's choices for an import; None leaves a choice to the format.

    Attributes:
        size, channels: (height, width) and channels of the images to write.
        name: The schema's name.
        public: Whether the user states that the data itself is public.
        n_public: A rough number of people that may be public.
        validation: What happens to a validation part: "drop" (left out), "train" or "heldout".
        workers: Number of threads that decode.
        unit: The unit of privacy: a "person" or a single "image".
        attributes: The data set's attributes to keep.
        label_name, classes: The name of a class label and of its classes, in label order.
        person_id: A column, or a pattern on file names, that identifies the person.
        image_column: The column with the images.
        by_position: Whether rows without a name of their own are numbered.
        categories, edges: Columns with their categories, or with their bin edges.
        schema: A schema.yaml that declares the table, the images and the attributes.
        images: Folders of the image files, in the order in which they are searched.
        file_column: The column that names the image files.
        file_pattern: A pattern of file names, as `image.file` of a schema.
        name_pattern: A pattern whose named groups make columns out of a file's name.
        strip_prefix: The leading folders that are removed from the names of files.
        separator, encoding, decimal, missing_values, ignore: The form of a table, as in a schema.
    """

    size: Size | None = None
    channels: Literal[1, 3] | None = None
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
    by_position: bool = False
    categories: tuple[tuple[str, tuple[str, ...]], ...] = ()
    edges: tuple[tuple[str, tuple[float, ...]], ...] = ()
    schema: Path | None = None
    images: tuple[Path, ...] = ()
    file_column: str | None = None
    file_pattern: str | None = None
    name_pattern: str | None = None
    strip_prefix: str | None = None
    separator: str | None = None
    encoding: str | None = None
    decimal: str | None = None
    missing_values: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


YES_NO: dict[str, Any] = {"kind": "categorical", "categories": ["no", "yes"]}


def categorical(categories: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Return the schema's entry of a categorical attribute."""
    return {"kind": "categorical", "categories": list(categories)}


def find(source: Path, *places: str, what: str) -> Path:
    """Return the first of some places below the source that exists.

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
    """Return the part of a group of images that belong together: 7 : 1 : 2, by a public hash.

    It is the same everywhere and in every version of the data: there is no seed, and the order of
    files does not matter.
    """
    digest = hashlib.sha256(f"7:1:2 {group}".encode("utf-8", "surrogatepass")).digest()
    tenth = 10 * int.from_bytes(digest[:8], "big") // 2**64
    return "train" if tenth < 7 else "validation" if tenth < 8 else "heldout"


def chosen(
    known: Mapping[str, Mapping[str, Any]],
    default: tuple[str, ...],
    asked: tuple[str, ...] | None,
) -> dict[str, Mapping[str, Any]]:
    """Return the attributes asked for, or the default ones, in that order.

    Raises:
        WrongArchive: One of them is unknown.
    """
    names = asked or default
    if unknown := [name for name in names if name not in known]:
        raise WrongArchive(f"there is no attribute {unknown[0]!r}; known are {', '.join(known)}")
    return {name: known[name] for name in names}


def classes_of(labels: np.ndarray, request: ImportRequest) -> tuple[str, ...]:
    """Return the class names of integer labels (N,): the stated ones, or the labels found.

    Raises:
        WrongArchive: None are stated, and the data is not public, so its labels must not be shown.
    """
    if request.classes:
        return request.classes
    if not request.public:
        raise WrongArchive(
            "--classes is needed: the names of the labels 0, 1, ... as they may be published (or "
            "--public, if the data itself is public)"
        )
    return tuple(str(label) for label in np.unique(labels))


def class_name(label: int, request: ImportRequest) -> str | None:
    """Return the class of a label; None if it is not among the stated classes."""
    if not request.classes:
        return str(label)
    return request.classes[label] if 0 <= label < len(request.classes) else None


def native(height: int, width: int, request: ImportRequest) -> Size:
    """Return the size asked for, or the images' own within the bounds of a schema (8 to 64)."""
    return request.size or (min(max(height, 8), 64), min(max(width, 8), 64))


def png(pixels: np.ndarray) -> bytes:
    """Encode pixels, uint8 (H, W) or (H, W, 3), as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
