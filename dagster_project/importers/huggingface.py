"""A local folder of Hugging Face `datasets`: Arrow files of save_to_disk, or Parquet files.

They are read batch by batch, only with pyarrow. The "huggingface" metadata that `datasets` writes
into both kinds of file says which columns are images and classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.data.images import read_inside
from dagster_project.data.lines import BrokenRow
from dagster_project.data.rows import cell_values, one_by_one
from dagster_project.importers.archive import (
    YES_NO,
    Archive,
    ImportRequest,
    Part,
    Row,
    WrongArchive,
    categorical,
)
from dagster_project.importers.imagefolder import PARTS

_BATCH = 256
_SPLIT = re.compile(r"(?:^|[/_-])(train|validation|valid|val|test)(?=[-_./]|$)")


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the files' names and schemas.

    Raises:
        WrongArchive: There is no such file, or no column of images or classes.
    """
    files = _files(source)
    schema = _schema(files[0][0])
    features = _features(schema)
    image = _image_column(schema, features, request)
    attributes = _attributes(schema, features, request)
    for column in (request.person_id, *attributes):
        if column is not None and column not in schema.names:
            raise WrongArchive(
                f"there is no column {column!r}; the columns are {', '.join(schema.names)}"
            )

    def rows() -> Iterator[Row | BrokenRow]:
        number = 0
        columns = [image, *attributes, *([request.person_id] if request.person_id else [])]
        for file, part in files:
            for batch in _batches(file, columns):
                for line in _lines(batch):
                    number += 1
                    if isinstance(line, BrokenRow):
                        yield line
                        continue
                    person = line[request.person_id] if request.person_id else f"{number:08d}"
                    yield Row(
                        person="" if person is None else str(person),
                        record={
                            a: _text(line[a], attributes[a], features.get(a)) for a in attributes
                        },
                        image=partial(_content, source, line[image]),
                        part=part,
                    )

    return Archive(
        attributes=attributes,
        channels=request.channels or 3,
        size=request.size or (32, 32),
        rows=rows,
        about=(
            "From a Hugging Face data set. Classes are "
            + ("as stated." if request.classes else "those that its features declare."),
            f"The column {request.person_id} names the person."
            if request.person_id
            else "Each image counts as a person.",
        ),
    )


def _files(source: Path) -> list[tuple[Path, Part | None]]:
    """Return all files of rows, with those of one part together."""
    if not source.is_dir():
        raise WrongArchive(f"there is no folder {source}")
    found = sorted(source.rglob("*.arrow")) or sorted(source.rglob("*.parquet"))
    # What `datasets` caches from a map or filter is not additional data.
    found = [file for file in found if not file.name.startswith("cache-")]
    if not found:
        raise WrongArchive(
            f".arrow files (of save_to_disk) or .parquet files were expected in {source}"
        )
    files: list[tuple[Path, Part | None]] = []
    for file in found:
        name = _SPLIT.search(file.relative_to(source).as_posix())
        files.append((file, PARTS[name[1]] if name else None))
    parts = {part for _, part in files}
    if parts == {"train"}:
        return [(file, None) for file, _ in files]
    if None in parts and len(parts) > 1:
        raise WrongArchive(
            f"some files in {source} name their part (train, test) and others do not"
        )
    return files


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


def _schema(file: Path) -> pa.Schema:
    try:
        if file.suffix == ".parquet":
            return pq.read_schema(file)
        with pa.memory_map(str(file)) as source, _arrow(source) as reader:
            return reader.schema
    except (pa.ArrowException, OSError):
        kind = file.suffix[1:].capitalize()
        raise WrongArchive(f"{file.name} cannot be read as {kind}") from None


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what `datasets` says of each column; empty if it says nothing."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return {name: body for name, body in features.items() if isinstance(body, dict)}


def _image_column(schema: pa.Schema, features: Mapping[str, Any], request: ImportRequest) -> str:
    images = [name for name, body in features.items() if body.get("_type") == "Image"]
    images = images or [f.name for f in schema if pa.types.is_struct(f.type)]
    wanted = [request.image_column] if request.image_column else ["image", "img", *images[:1]]
    found = next((name for name in wanted if name in images), None)
    if found is None or (len(images) > 1 and found not in wanted[:2]):
        raise WrongArchive(
            f"a column of images was expected (see --image-column); the columns are "
            f"{', '.join(schema.names)}"
        )
    return found


def _attributes(
    schema: pa.Schema, features: Mapping[str, Any], request: ImportRequest
) -> dict[str, dict[str, Any]]:
    """Return the label asked for, or every column whose classes are declared."""
    declared = {
        name: categorical([str(n) for n in body["names"]])
        for name, body in features.items()
        if body.get("_type") == "ClassLabel" and body.get("names")
    }
    declared |= {f.name: YES_NO for f in schema if pa.types.is_boolean(f.type)}
    if request.classes:
        return {request.label_name or "label": categorical(request.classes)}
    if request.label_name in declared:
        return {request.label_name: declared[request.label_name]}
    if request.label_name is not None or not declared:
        raise WrongArchive(
            f"a column of classes was expected ({request.label_name or 'a ClassLabel'}); name the "
            f"column and its classes with --label-name and --classes; the columns are "
            f"{', '.join(schema.names)}"
        )
    return declared


def _text(value: object, attribute: Mapping[str, Any], feature: Any) -> str | None:
    """Return the class of a cell; None if it has none."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    names = attribute["categories"]
    if isinstance(value, int) and not (feature is None and str(value) in names):
        return names[value] if 0 <= value < len(names) else None
    return str(value)


def _content(source: Path, cell: Mapping[str, Any] | None) -> object:
    """Return an image's bytes, or those of the file inside the folder that the cell names."""
    if cell is None:
        return None
    return cell.get("bytes") or read_inside(source, cell.get("path"))
