"""The pairs of a bundle once more as a CSV table with picture files, for tools without Parquet.

The name of the table and its column `file_name` are those by which `load_dataset("csv")` of Hugging
Face, given this folder, joins pictures and rows.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

FILE_NAME = "file_name"


def write_table(folder: Path, shards: Sequence[Path], image_column: str) -> None:
    """Write `metadata.csv` and `images/*.png`.

    A missing value is an empty field, a truth value "true" or "false", and a date ISO 8601.

    Args:
        folder: New folder.
        shards: The bundle's Parquet files, in order.
        image_column: Column of the images in them.

    Raises:
        ValueError: If a column is already called "file_name".
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        for number, shard in enumerate(shards):
            table = pq.read_table(shard)
            names = [name for name in table.column_names if name != image_column]
            if FILE_NAME in names:
                raise ValueError(f"a column is called {FILE_NAME!r}, which the table needs")
            if number == 0:
                writer.writerow([FILE_NAME, *names])
            columns = [table[name].to_pylist() for name in names]
            for picture, *values in zip(table[image_column].to_pylist(), *columns, strict=True):
                (images / picture["path"]).write_bytes(picture["bytes"])
                writer.writerow([f"images/{picture['path']}", *map(_text, values)])


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)
