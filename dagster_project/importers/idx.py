"""IDX files of the MNIST family (LeCun's format): images and labels, plain or gzipped.

The expected files are train-images-idx3-ubyte and train-labels-idx1-ubyte and, if present, the same
for t10k (or test), each optionally with a prefix, as EMNIST's, and with .gz.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from dagster_project.importers.archive import (
    Archive,
    ImportRequest,
    Part,
    Row,
    WrongArchive,
    categorical,
    class_name,
    classes_of,
    native,
    png,
)


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the headers of the images and the labels.

    Raises:
        WrongArchive: A file is missing, or is not an IDX file.
    """
    if not source.is_dir():
        raise WrongArchive(f"there is no folder {source}")
    parts: dict[Part, tuple[Path, Path]] = {"train": _files(source, "train")}
    for stem in ("t10k", "test"):
        if list(source.glob(f"*{stem}-images*idx3-ubyte*")):
            parts["heldout"] = _files(source, stem)
    labels: dict[Part, np.ndarray] = {}
    shape: tuple[int, ...] = ()
    for part, (images, label_file) in parts.items():
        with _opened(images, axes=3) as (_, found):
            count, *shape_of_one = found
        shape = tuple(shape_of_one)
        with _opened(label_file, axes=1) as (stream, (n,)):
            labels[part] = np.frombuffer(_read(stream, n, label_file), np.uint8)
        if n != count:
            raise WrongArchive(
                f"{images.name} holds {count} images and {label_file.name} {n} labels"
            )
    name = request.label_name or "label"
    classes = classes_of(np.concatenate(list(labels.values())), request)

    def rows() -> Iterator[Row]:
        for part, (images, _) in parts.items():
            for number, pixels in enumerate(_images(images)):
                yield Row(
                    person=f"{part}-{number:06d}",
                    record={name: class_name(int(labels[part][number]), request)},
                    image=partial(png, pixels),
                    part=part if len(parts) > 1 else None,
                )

    return Archive(
        attributes={name: categorical(classes)},
        channels=request.channels or 1,
        size=native(shape[0], shape[1], request),
        rows=rows,
        total=sum(map(len, labels.values())),
        about=(
            f"From IDX files. The classes of {name} are "
            + (
                "as stated, in label order."
                if request.classes
                else "the labels of this public data."
            ),
            "Each image counts as a person, numbered in the order of the file, which names nobody: "
            "an image that moves is another person.",
        ),
    )


def _files(source: Path, stem: str) -> tuple[Path, Path]:
    """Return the files of images and of labels of one part."""
    found = []
    for what in ("images*idx3", "labels*idx1"):
        files = sorted(source.glob(f"*{stem}-{what}-ubyte*"))
        if len(files) != 1:
            plain = what.replace("*", "-")
            raise WrongArchive(
                f"one file {stem}-{plain}-ubyte (or .gz) was expected in {source}, but there "
                f"{'is none' if not files else f'are {len(files)}'}"
            )
        found.append(files[0])
    return found[0], found[1]


@contextmanager
def _opened(file: Path, *, axes: int) -> Iterator[tuple[BinaryIO, tuple[int, ...]]]:
    """Open a file and return the stream after the header, and the shape in the header."""
    wrong = WrongArchive(f"{file.name} is not an IDX file of bytes with {axes} axes")
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rb") as raw:
        stream = cast(BinaryIO, raw)
        try:
            header = stream.read(4 + 4 * axes)
        except (OSError, EOFError):
            raise wrong from None
        if header[:4] != bytes((0, 0, 8, axes)) or len(header) != 4 + 4 * axes:
            raise wrong
        shape = tuple(int(n) for n in np.frombuffer(header[4:], ">u4"))
        yield stream, shape


def _images(file: Path) -> Iterator[np.ndarray]:
    with _opened(file, axes=3) as (stream, (count, *shape)):
        for _ in range(count):
            pixels = _read(stream, math.prod(shape), file)
            yield np.frombuffer(pixels, np.uint8).reshape(shape)


def _read(stream: BinaryIO, size: int, file: Path) -> bytes:
    try:
        content = stream.read(size)
    except (OSError, EOFError):
        content = b""
    if len(content) != size:
        raise WrongArchive(f"{file.name} ends too early")
    return content
