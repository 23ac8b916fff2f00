"""The pictures of a record file's rows, each decoded by itself.

A row leads to its picture, or to the reason why it has none, by its own cells and the schema alone.
So any process can decode any part of the rows, and the parts together are what one process makes of
the whole. `reading` decides whose picture is wanted, `images` decodes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np

from dagster_project.data.image_faults import UnusableImage
from dagster_project.data.image_files import file_name, read_inside
from dagster_project.data.images import decode_image
from dagster_project.data.layout import Layout
from dagster_project.data.persons import canonical_id
from dagster_project.data.rows import Batch, stream
from dagster_project.data.schema import Schema


@dataclass(frozen=True)
class Pictures:
    """The pictures of some rows of a record file: a picklable description. Private.

    Attributes:
        file: The record file.
        layout: The data folder that it belongs to.
        schema: The public contract.
        rows: The wanted rows, sorted, int (n,), counted from 0 in the order of `rows.stream`.
        start: The first row that is read.
        stop: The row before which reading ends. All rows between are read, wanted or not, so that
            damage to the file is noticed whoever is wanted.
    """

    file: Path
    layout: Layout
    schema: Schema
    rows: np.ndarray
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, C, H, W) of the decoded pictures if all can be used."""
        image = self.schema.image
        return len(self.rows), image.channels, image.height, image.width

    def divide(self, parts: int) -> list[Pictures]:
        """Return at most `parts` consecutive parts of the file, of equally many rows but the last.

        Each part has the wanted rows that lie in it.
        """
        size = max(1, ceil((self.stop - self.start) / parts))
        edges = [*range(self.start, self.stop, size), self.stop]
        places = np.searchsorted(self.rows, edges)
        return [
            replace(self, rows=self.rows[places[i] : places[i + 1]], start=start, stop=edges[i + 1])
            for i, start in enumerate(edges[:-1])
        ]

    def decode(
        self,
        put: Callable[[int, np.ndarray], object],
        told: Callable[[float], None] = lambda done: None,
    ) -> tuple[np.ndarray, Counter[str]]:
        """Decode the wanted rows in order.

        Args:
            put: Takes each picture that can be used, uint8 (C, H, W), and its number from 0.
            told: Called with the fraction done.

        Returns:
            The rows whose pictures were put, int64, and why the others have none.

        Raises:
            OSError, pyarrow.ArrowException: The record file is damaged.
        """
        usable = np.zeros(len(self.rows), dtype=bool)
        reasons: Counter[str] = Counter()
        first, seen, done = self.start, 0, 0
        columns = [image_column(self.layout, self.schema)]
        for batch in stream(self.file, columns, self.schema, start=self.start):
            until = int(np.searchsorted(self.rows, first + len(batch)))
            wanted = self.rows[seen:until] - first
            images = images_of(batch, self.layout, self.schema, wanted)
            for place, image in enumerate(images, seen):
                if isinstance(image, UnusableImage):
                    reasons[f"image {image}: row dropped"] += 1
                else:
                    put(done, image)
                    usable[place], done = True, done + 1
            first, seen = first + len(batch), until
            told(seen / max(1, len(self.rows)))
            if first >= self.stop:
                break
        return self.rows[usable], reasons


# Decodes pictures, and is told of the fraction done. Returns the usable ones (m, C, H, W), their
# rows (m,), and why the others cannot be used.
Decode = Callable[[Pictures, Callable[[float], None]], tuple[np.ndarray, np.ndarray, Counter[str]]]


def decode_in_memory(
    pictures: Pictures, told: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Decode in this process into an array in memory; a `Decode`."""
    images = np.empty(pictures.shape, np.uint8)
    kept, reasons = pictures.decode(images.__setitem__, told)
    return images[: len(kept)], kept, reasons


def images_of(
    batch: Batch, layout: Layout, schema: Schema, wanted: Iterable[int]
) -> Iterator[np.ndarray | UnusableImage]:
    """Yield the decoded image (C, H, W), or why there is none, of each wanted row of a batch."""
    for i in wanted:
        try:
            yield decode_image(_image_bytes(batch, i, layout, schema), schema.image)
        except UnusableImage as error:
            yield error


def image_bytes(batch: Batch, row: int, layout: Layout, schema: Schema) -> object:
    """Return the bytes of a row's image as they are stored, or None if they cannot be read."""
    try:
        return _image_bytes(batch, row, layout, schema)
    except UnusableImage:
        return None


def image_place(batch: Batch, row: int, layout: Layout, schema: Schema) -> object:
    """Return the bytes of a row's image, or its name in the folder of images; None if absent."""
    cell = batch.columns[image_column(layout, schema)][row]
    if layout.images is None:
        return cell
    if not layout.image_column and schema.person_id_rule.endswith("digits"):
        cell = canonical_id(cell, schema.person_id_rule)
    return file_name(layout.images, cell, schema.image, pattern=image_pattern(layout))


def image_pattern(layout: Layout) -> str:
    """Return how an image's name is made from the table's unless the schema says otherwise."""
    return "{name}" if layout.image_column else "{name}.png"


def image_column(layout: Layout, schema: Schema) -> str:
    """Return the column that holds or names a row's image."""
    return schema.image.column if layout.image_column else schema.person_id


def _image_bytes(batch: Batch, row: int, layout: Layout, schema: Schema) -> object:
    content = image_place(batch, row, layout, schema)
    if layout.images is None:
        return content
    name, limit = None if content is None else str(content), schema.image.max_bytes
    return read_inside(layout.images, name, limit=limit, cache=layout.cache)
