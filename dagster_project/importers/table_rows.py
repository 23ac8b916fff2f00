"""Rows and images of a table in one of several forms: CSV, Parquet, JSON Lines, or file names.

Each row is read by itself and becomes a mapping of column names to cells. What the columns mean
belongs to `table`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from dagster_project.data.image_faults import UnusableImage
from dagster_project.data.image_files import file_name, read_inside
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.lines import BrokenRow, csv_header, csv_rows, text_lines
from dagster_project.data.table_format import TableFormat
from dagster_project.importers.archive import WrongArchive
from dagster_project.importers.arrow_files import arrow_rows, arrow_schema
from dagster_project.importers.imagefolder import files_below

FILE = "file"  # the column of a folder's own files
_NO_JSON = BrokenRow("line that is not a JSON object")
_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".jsonl")


@dataclass(frozen=True)
class RowSource:
    """A table.

    Attributes:
        columns: Names of its columns; empty if only its rows tell them.
        read: Starts a stream of its rows with at least the given columns, if they exist.
        types: Types of the columns, if the file has any.
    """

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Mapping[str, object] | BrokenRow]]
    types: Mapping[str, pa.DataType] = field(default_factory=dict)


def open_rows(source: Path, form: TableFormat) -> RowSource:
    """Inspect a table, or a folder whose files are the rows; no record is read.

    Raises:
        WrongArchive: It is neither, or has no header.
    """
    if source.is_dir():
        return RowSource((FILE,), lambda columns: ({FILE: name} for name in files_below(source)))
    if not source.is_file() or source.suffix.lower() not in _ENDINGS:
        raise WrongArchive(f"{source} is neither a table ({', '.join(_ENDINGS)}) nor a folder")
    if source.suffix.lower() == ".parquet":
        schema = arrow_schema(source)
        types = dict(zip(schema.names, schema.types, strict=True))
        return RowSource(tuple(schema.names), lambda columns: arrow_rows(source, columns), types)
    if source.suffix.lower() == ".jsonl":
        return RowSource((), lambda columns: _json_rows(source))
    header = csv_header(source, form)
    if isinstance(header, BrokenRow) or not header:
        reason = header.reason if isinstance(header, BrokenRow) else "line without a name"
        raise WrongArchive(
            f"{source.name} cannot be read: its first line is a {reason} (see --encoding and "
            "--separator)"
        )
    return RowSource(tuple(header), lambda columns: _csv(source, form, columns))


def _csv(
    file: Path, form: TableFormat, columns: Sequence[str]
) -> Iterator[Mapping[str, object] | BrokenRow]:
    rows = csv_rows(file, form, columns)
    _, first = next(rows)
    header = first if isinstance(first, list) else []
    for _, fields in rows:
        yield fields if isinstance(fields, BrokenRow) else dict(zip(header, fields, strict=True))


def _json_rows(file: Path) -> Iterator[Mapping[str, object] | BrokenRow]:
    for _, line in text_lines(file):
        if isinstance(line, BrokenRow):
            yield line
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        yield row if isinstance(row, dict) else _NO_JSON


def image_content(folders: Sequence[Path], cell: object, spec: ImageSpec) -> object:
    """Return an image's bytes, or those of the first file in the folders to which a cell leads."""
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path")
    if cell is None or isinstance(cell, bytes):
        return cell
    faults = []
    for folder in folders:
        try:
            name = file_name(folder, cell, spec, pattern="{name}")
            return read_inside(folder, name, limit=spec.max_bytes)
        except UnusableImage as fault:
            faults.append(fault)
    raise faults[0]
