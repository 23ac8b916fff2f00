"""A stream over the rows of a record file, CSV or Parquet, each row read by itself.

A row that cannot be read is a row without values and with a reason, never an error. Only damage to
the file itself is an error, which no record can cause. `reading` decides what a row means, and
`lines` parses lines. Texts have no outer spaces, and those that are empty or declared
to mean "absent" are absent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.data.lines import BrokenRow, csv_rows
from dagster_project.data.raw_values import number_text
from dagster_project.data.schema import Schema
from dagster_project.data.table_format import clean_name

BATCH = 1024
UNDECODABLE = BrokenRow("cell that cannot be decoded")


@dataclass(frozen=True)
class Batch:
    """Some rows of a file, in file order. Private.

    Attributes:
        numbers: Number of each row (n,), from 1. Empty lines of a CSV file count, so that row r is
            line r + 1, or r + 2 behind a line "sep=;".
        columns: The values (n,) of each column, None if absent or unreadable.
        broken: Why a row cannot be used, by its position in the batch, whatever else it holds.
    """

    numbers: Sequence[int]
    columns: Mapping[str, list[object]]
    broken: Mapping[int, BrokenRow]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def sound(self) -> np.ndarray:
        """Return whether each row can be used, bool (n,)."""
        sound = np.ones(len(self), dtype=bool)
        sound[list(self.broken)] = False
        return sound


def row_count(file: Path) -> int:
    """Return the approximate number of rows, at least 1, for a progress bar. Private."""
    if file.suffix == ".parquet":
        return max(pq.read_metadata(file).num_rows, 1)
    with file.open("rb") as stream:
        chunks = iter(partial(stream.read, 2**20), b"")
        return max(sum(chunk.count(b"\n") for chunk in chunks) - 1, 1)


def stream(
    file: Path, columns: Sequence[str], schema: Schema, *, start: int = 0
) -> Iterator[Batch]:
    """Yield batches of rows in file order.

    Args:
        file: A CSV or Parquet file.
        columns: The wanted columns. Which rows there are does not depend on them.
        schema: The declared form of the table, and all columns that are used.
        start: Number of rows to skip.

    Raises:
        OSError, pyarrow.ArrowException: The file itself is damaged.
    """
    read = _parquet if file.suffix == ".parquet" else _csv
    # A number, such as -9, means "absent" in attributes, which look for it, but not as an id.
    absent = {text for text in schema.table.missing_values if number_text(text) is None}
    for batch in read(file, columns, schema, start):
        for values in batch.columns.values():
            values[:] = [_clean(v, absent) if isinstance(v, str) else v for v in values]
        yield batch


def one_by_one(schema: pa.Schema, columns: Sequence[str]) -> bool:
    """Return whether Parquet rows must be read singly so that no row affects the others.

    Arrow cannot read structs or lists whose texts or bytes exceed 2 GiB in one batch, so that a
    single large image or list of labels would decide whether the whole file can be read.
    """
    return any(pa.types.is_nested(schema.field(name).type) for name in columns)


def cell_values(column: pa.Array) -> list[object]:
    """Return the values of a column; `UNDECODABLE` if one cannot be read, such as invalid UTF-8."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    try:
        values: list[object] = column.to_pylist()
    except (ValueError, OverflowError):
        return [_value(cell) for cell in column]
    return values


def _clean(text: str, absent: Collection[str]) -> str | None:
    text = text.strip()
    return None if text in absent else text or None


def _csv(file: Path, columns: Sequence[str], schema: Schema, start: int) -> Iterator[Batch]:
    rows = csv_rows(file, schema.table, schema.used)
    _, header = next(rows, (1, []))
    names = list(map(clean_name, columns)) if isinstance(header, list) else []
    where = [header.index(name) for name in names if isinstance(header, list)]
    rows = islice(rows, start, None)
    while some := list(islice(rows, BATCH)):
        fields = [None if isinstance(row, BrokenRow) else row for _, row in some]
        values: dict[str, list[object]] = {
            name: [row[i] if row else None for row in fields]
            for name, i in zip(columns, where, strict=True)
        }
        broken = {i: row for i, (_, row) in enumerate(some) if isinstance(row, BrokenRow)}
        yield Batch([number - 1 for number, _ in some], values, broken)


def _parquet(file: Path, columns: Sequence[str], schema: Schema, start: int) -> Iterator[Batch]:
    values: dict[str, list[object]] = {name: [] for name in columns}
    # Unmapped, a column of a whole row group is loaded at once, and it may hold all images. A
    # mapped file that is cut while it is read ends the process.
    with pq.ParquetFile(file, memory_map=True) as parquet:
        spelled = {clean_name(name): name for name in parquet.schema_arrow.names}
        names = [spelled[clean_name(name)] for name in columns]
        size = 1 if one_by_one(parquet.schema_arrow, names) else BATCH
        ends = np.cumsum(
            [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        )
        group = int(np.searchsorted(ends, start, side="right"))
        groups = range(group, parquet.num_row_groups)
        skip = start - int(ends[group - 1] if group else 0)
        for batch in parquet.iter_batches(batch_size=size, columns=names, row_groups=groups):
            skipped = min(skip, len(batch))
            batch, skip = batch.slice(skipped), skip - skipped
            for name, there in zip(columns, names, strict=True):
                values[name] += _cells(batch.column(there))
            if len(values[columns[0]]) >= BATCH:
                yield _batch(start, values)
                start, values = start + len(values[columns[0]]), {name: [] for name in columns}
    if values[columns[0]]:
        yield _batch(start, values)


def _batch(start: int, values: dict[str, list[object]]) -> Batch:
    broken = {
        i: cell
        for column in values.values()
        for i, cell in enumerate(column)
        if isinstance(cell, BrokenRow)
    }
    for column in values.values():
        for i in broken:
            column[i] = None if isinstance(column[i], BrokenRow) else column[i]
    rows = len(next(iter(values.values())))
    return Batch(range(start + 1, start + rows + 1), values, broken)


def _cells(column: pa.Array) -> list[object]:
    if pa.types.is_struct(column.type):
        # Unlike `field`, `flatten` hides what is beneath a null.
        column = column.flatten()[column.type.get_field_index("bytes")]
    return cell_values(column)


def _value(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except (ValueError, OverflowError):
        return UNDECODABLE
