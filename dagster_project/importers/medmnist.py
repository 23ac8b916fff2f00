"""MedMNIST (Yang et al., Scientific Data 2023): one .npz with images and labels of three parts.

The file is expected to hold train_images, train_labels and, if present, the same for val and test:
uint8 images (N, H, W) or (N, H, W, 3), and labels (N, 1), or (N, L) with an answer for each of L
findings.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from dagster_project.importers.archive import (
    YES_NO,
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

PARTS: dict[str, Part] = {"train": "train", "val": "validation", "test": "heldout"}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the arrays' headers and the labels.

    Raises:
        WrongArchive: It is not such a file.
    """
    if source.is_dir():
        found = sorted(source.glob("*.npz"))
        if len(found) != 1:
            raise WrongArchive(f"one .npz file was expected in {source}, but it holds {len(found)}")
        source = found[0]
    if not zipfile.is_zipfile(source):
        raise WrongArchive(f"{source} is not an .npz file")
    with zipfile.ZipFile(source) as file:
        members = {name.removesuffix(".npy") for name in file.namelist()}
    for needed in ("train_images", "train_labels"):
        if needed not in members:
            raise WrongArchive(f"the array {needed} was expected in {source.name}")
    parts = {stem: part for stem, part in PARTS.items() if f"{stem}_images" in members}
    labels: dict[str, np.ndarray] = {}
    one: tuple[int, ...] = ()
    for stem in parts:
        count, *shape = _shape(source, f"{stem}_images")
        one = tuple(shape)
        if len(one) not in (2, 3) or (len(one) == 3 and one[2] != 3):
            raise WrongArchive(
                f"{stem}_images must hold flat images, (N, H, W) or (N, H, W, 3): volumes are "
                "not supported"
            )
        labels[stem] = _labels(source, f"{stem}_labels", count)
    columns = labels["train"].shape[1]
    if any(column.shape[1] != columns for column in labels.values()):
        raise WrongArchive("the parts have labels of different widths")
    name = request.label_name or "label"
    if columns == 1:
        every = np.concatenate(list(labels.values()))
        attributes = {name: categorical(classes_of(every, request))}
    else:
        findings = request.classes or tuple(f"{name}_{i}" for i in range(columns))
        if len(findings) != columns:
            raise WrongArchive(f"--classes must name the {columns} findings of the labels")
        attributes = dict.fromkeys(findings, YES_NO)

    def record(values: np.ndarray) -> dict[str, object]:
        if columns == 1:
            return {name: class_name(int(values[0]), request)}
        answers = ("yes" if value else "no" for value in values)
        return dict(zip(attributes, answers, strict=True))

    def rows() -> Iterator[Row]:
        for stem, part in parts.items():
            for number, pixels in enumerate(_images(source, f"{stem}_images")):
                yield Row(
                    person=f"{stem}-{number:06d}",
                    record=record(labels[stem][number]),
                    image=partial(png, pixels),
                    part=part if len(parts) > 1 else None,
                )

    return Archive(
        attributes=attributes,
        channels=request.channels or (3 if len(one) == 3 else 1),
        size=native(one[0], one[1], request),
        rows=rows,
        total=sum(map(len, labels.values())),
        about=(
            "From a MedMNIST file. Its labels are numbers, and their names are "
            + ("as stated, in order." if request.classes else "the numbers themselves."),
            "Each image counts as a person, numbered in the order of the file, which does not tell "
            "patients apart: an image that moves is another person.",
        ),
    )


@contextmanager
def _opened(source: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """Open an array and return the stream after its header, its shape and its type."""
    wrong = WrongArchive(f"the array {name} was expected in {source.name}, as plain numbers")
    with zipfile.ZipFile(source) as file:
        try:
            stream = file.open(f"{name}.npy")
            version = np.lib.format.read_magic(stream)
            shape, fortran, kind = _HEADERS[version](stream)
        except (KeyError, *_BROKEN):
            raise wrong from None
        if fortran or kind.hasobject or kind.kind not in "biuf":
            raise wrong
        with stream:
            yield stream, shape, kind


def _shape(source: Path, name: str) -> tuple[int, ...]:
    with _opened(source, name) as (_, shape, kind):
        if kind != np.uint8 or not shape:
            raise WrongArchive(f"{name} must hold bytes (uint8)")
        return shape


def _labels(source: Path, name: str, count: int) -> np.ndarray:
    """Return the labels (N, L)."""
    with _opened(source, name) as (stream, shape, kind):
        found = np.frombuffer(_read(stream, int(np.prod(shape)) * kind.itemsize, name), kind)
    if not shape or shape[0] != count or len(shape) > 2:
        raise WrongArchive(f"{name} must hold a row of labels for each of the {count} images")
    return found.reshape(count, -1).astype(np.int64)


def _images(source: Path, name: str) -> Iterator[np.ndarray]:
    with _opened(source, name) as (stream, (count, *one), _):
        for _number in range(count):
            pixels = _read(stream, int(np.prod(one)), name)
            yield np.frombuffer(pixels, np.uint8).reshape(one)


def _read(stream: IO[bytes], size: int, name: str) -> bytes:
    try:
        content = stream.read(size)
    except _BROKEN:
        content = b""
    if len(content) != size:
        raise WrongArchive(f"{name} ends too early")
    return content
