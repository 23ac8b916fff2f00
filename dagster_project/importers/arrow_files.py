"""Rows of Arrow and Parquet files, batch by batch, each row decoded by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.data.lines import BrokenRow
from dagster_project.data.rows import cell_values, one_by_one
from dagster_project.importers.archive import WrongArchive

_BATCH = 256


def arrow_schema(file: Path) -> pa.Schema:
    """Return the columns and types of an Arrow or Parquet file.

    Raises:
        WrongArchive: It is no such file.
    """
    try:
        if file.suffix == ".parquet":
            return pq.read_schema(file)
        with pa.memory_map(str(file)) as source, _arrow(source) as reader:
            return reader.schema
    except (pa.ArrowException, OSError):
        kind = file.suffix[1:].capitalize()
        raise WrongArchive(f"{file.name} cannot be read as {kind}") from None


def arrow_rows(file: Path, columns: Sequence[str]) -> Iterator[dict[str, Any] | BrokenRow]:
    """Yield the cells of each row by column name.

    Raises:
        WrongArchive: The file ends early, or lacks a column.
    """
    for batch in _batches(file, list(columns)):
        yield from _lines(batch)


def _batches(file: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        if file.suffix == ".parquet":
            with pq.ParquetFile(file) as parquet:
                size = 1 if one_by_one(parquet.schema_arrow, columns) else _BATCH
                yield from parquet.iter_batches(size, columns=columns)
            return
        with pa.memory_map(str(file)) as source, _arrow(source) as reader:
            for batch in reader:
                for start in range(0, len(batch), _BATCH):
                    yield batch.slice(start, _BATCH).select(columns)
    except (pa.ArrowException, OSError, KeyError):
        raise WrongArchive(
            f"{file.name} cannot be read to the end, or lacks a column of the others"
        ) from None


def _lines(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | BrokenRow]:
    """Yield the rows of a batch, each decoded by itself."""
    names = batch.schema.names
    for cells in zip(*map(_cells, batch.columns), strict=True):
        broken = next((cell for cell in cells if isinstance(cell, BrokenRow)), None)
        yield broken or dict(zip(names, cells, strict=True))


def _cells(column: pa.Array) -> list[Any]:
    if not pa.types.is_struct(column.type):
        return cell_values(column)
    names = [field.name for field in column.type]
    return [
        next((cell for cell in cells if isinstance(cell, BrokenRow)), None)
        or dict(zip(names, cells, strict=True))
        for cells in zip(*map(cell_values, column.flatten()), strict=True)
    ]


def _arrow(source: Any) -> Any:
    # `datasets` writes Arrow's stream format; plain Arrow files have the file format.
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        reader = pa.ipc.open_file(source)
        return pa.RecordBatchReader.from_batches(
            reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
        )
