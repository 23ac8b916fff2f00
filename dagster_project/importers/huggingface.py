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

from dagster_project.data.images import read_inside
from dagster_project.data.lines import BrokenRow
from dagster_project.data.persons import canonical_id
from dagster_project.data.raw_values import number
from dagster_project.importers.archive import (
    YES_NO,
    Archive,
    ImportRequest,
    Part,
    Row,
    WrongArchive,
    categorical,
)
from dagster_project.importers.arrow_files import arrow_rows, arrow_schema
from dagster_project.importers.domains import declared
from dagster_project.importers.imagefolder import PARTS

_NO_PERSON = BrokenRow("row that names no person")
_SPLIT = re.compile(r"(?:^|[/_-])(train|validation|valid|val|test)(?=[-_./]|$)")


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the files' names and schemas.

    Raises:
        WrongArchive: There is no such file, or no column of images or classes.
    """
    files = _files(source)
    schema = arrow_schema(files[0][0])
    features = _features(schema)
    image = _image_column(schema, features, request)
    attributes = _attributes(schema, features, request)
    _require_person(request)
    for column in (request.person_id, *attributes):
        if column is not None and column not in schema.names:
            raise WrongArchive(
                f"there is no column {column!r}; the columns are {', '.join(schema.names)}"
            )

    def row(line: Mapping[str, Any], part: Part | None, number: int) -> Row | BrokenRow:
        cell = line[image]
        if request.person_id:
            person = canonical_id(line[request.person_id])
        elif request.unit != "image":
            person = f"{number:08d}"
        else:
            path = cell.get("path") if isinstance(cell, dict) else None
            person = f"{part}/{path}" if path and part else path
        if not person:
            return _NO_PERSON
        return Row(
            person=person,
            record={a: _value(line[a], attributes[a], features.get(a)) for a in attributes},
            image=partial(_content, source, cell),
            part=part,
        )

    def rows() -> Iterator[Row | BrokenRow]:
        number = 0
        columns = [image, *attributes, *([request.person_id] if request.person_id else [])]
        for file, part in files:
            for line in arrow_rows(file, columns):
                number += 1
                yield line if isinstance(line, BrokenRow) else row(line, part, number)

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
            else "Each image counts as a person, numbered in the order of rows: a row that "
            "moves is another person."
            if request.unit != "image"
            else "Each image counts as a person, named by its file.",
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
            f".arrow files (of save_to_disk) or .parquet files were expected in {source}; "
            "`dptabimage import table` reads folders with metadata.csv"
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
    """Return the label asked for, or every column with declared classes or edges."""
    stated = declared(request)
    classes = {
        name: categorical([str(n) for n in body["names"]])
        for name, body in features.items()
        if body.get("_type") == "ClassLabel" and body.get("names")
    }
    classes |= {f.name: YES_NO for f in schema if pa.types.is_boolean(f.type)}
    if request.classes:
        return {request.label_name or "label": categorical(request.classes), **stated}
    if request.label_name in classes:
        return {request.label_name: classes[request.label_name], **stated}
    if request.label_name is not None or not classes | stated:
        raise WrongArchive(
            f"a column of classes was expected ({request.label_name or 'a ClassLabel'}); name the "
            f"column and its classes with --label-name and --classes; the columns are "
            f"{', '.join(schema.names)}"
        )
    return classes | stated


def _require_person(request: ImportRequest) -> None:
    if not (request.person_id or request.unit == "image" or request.by_position):
        raise WrongArchive(
            "one of these must say who a row belongs to: --person-id COLUMN, --unit image (each "
            "image, by the file name that it holds), or --by-position (rows are numbered)"
        )


def _value(value: object, attribute: Mapping[str, Any], feature: Any) -> object:
    """Return the class or number of a cell; None if it has none."""
    if attribute["kind"] == "numeric":
        return number(value)
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
