"""A table (CSV, Parquet or JSON Lines) beside a folder of images, or telling file names alone.

This covers CheXpert, HAM10000, UTKFace, Hugging Face's folders with metadata.csv, and exports of
all kinds. Columns, domains and the form of the table are declared, by options or by a schema.yaml;
only for data that is itself public are domains suggested by the values. Cells are passed on as they
are, so that the declarations of the written schema.yaml apply to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagster_project.data.image_rules import file_patterns
from dagster_project.data.image_spec import ImageSpec
from dagster_project.data.lines import BrokenRow
from dagster_project.data.persons import canonical_id
from dagster_project.data.raw_values import category_text, number_text
from dagster_project.data.schema import Schema
from dagster_project.data.schema_rules import read_yaml
from dagster_project.data.table_format import ALL_OTHERS, TableFormat, clean_name
from dagster_project.data.table_rules import table_format
from dagster_project.importers import domains
from dagster_project.importers.archive import Archive, ImportRequest, Part, Row, WrongArchive
from dagster_project.importers.imagefolder import METADATA, parts_of
from dagster_project.importers.table_rows import FILE, RowSource, image_content, open_rows
from dagster_project.starting.folder import only_table
from dagster_project.starting.names import attribute_name

_NO_PERSON = BrokenRow("row that names no person")
_NO_FIT = BrokenRow("file name that does not fit the pattern")
_DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";"}


@dataclass(frozen=True)
class _Table:
    """One table: its rows, the folders of its images, and its part."""

    rows: RowSource
    folders: Sequence[Path]
    part: Part | None


@dataclass(frozen=True)
class _Columns:
    """Where a row holds what: the person, the image, and each attribute with its declaration."""

    person: str
    image: str
    attributes: Mapping[str, tuple[str, Mapping[str, Any]]]  # name: column, body
    pattern: re.Pattern[str] | None

    @property
    def needed(self) -> list[str]:
        """The columns that are read, without those that the file's name gives."""
        given = self.pattern.groupindex if self.pattern else {}
        wanted = (self.person, self.image, *(column for column, _ in self.attributes.values()))
        return [column for column in dict.fromkeys(wanted) if column not in given]


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the table's header and the declarations.

    Raises:
        WrongArchive: There is no such table or column, or a declaration is missing.
        SchemaError: The given schema or option is wrong.
    """
    content = read_yaml(request.schema) if request.schema else None
    schema = Schema.from_dict(content) if content else None
    form = table_format(dict(content.get("table", {})) if content else _form(request))
    spec = _image(request, schema)
    tables = _tables(source, request, form)
    columns = _columns(tables, request, content, form, spec)
    types = {
        name: _type([table.rows.types.get(column, pa.string()) for table in tables])
        for name, (column, _) in columns.attributes.items()
    }

    def rows() -> Iterator[Row | BrokenRow]:
        for table in tables:
            for cells in table.rows.read(columns.needed):
                yield _row(cells, table, columns, types, form, spec)

    stated = {"decimal": form.decimal, "missing_values": list(form.missing_values)}
    kept = {key: value for key, value in stated.items() if value not in (".", [])}
    return Archive(
        name=schema.name if schema else None,
        public=schema.public if schema else False,
        attributes={name: body for name, (_, body) in columns.attributes.items()},
        channels=spec.channels,
        size=(spec.height, spec.width),
        rows=rows,
        documented=schema.n_public if schema else None,
        types=types,
        decoding=spec,
        more={
            **{k: content[k] for k in ("population", "person_id_rule") if content and k in content},
            **({"table": kept} if kept else {}),
        },
        about=(
            f"From the table {source.name}. Attributes and their values are as declared"
            + (", or suggested by the values of this public table." if request.public else "."),
            "Each image counts as a person."
            if columns.person == columns.image
            else f"The column {columns.person} names the person.",
        ),
    )


def _form(request: ImportRequest) -> dict[str, Any]:
    separator = request.separator
    options = {
        "delimiter": None if separator is None else _DELIMITERS.get(separator, separator),
        "encoding": request.encoding,
        "decimal": request.decimal,
        "missing_values": list(request.missing_values) or None,
        "ignore": list(request.ignore) or None,
    }
    return {key: value for key, value in options.items() if value is not None}


def _image(request: ImportRequest, schema: Schema | None) -> ImageSpec:
    """Return how images are read and what they become: the schema's way, changed by options."""
    spec = schema.image if schema else ImageSpec("image", 3, 32, 32)
    if request.file_pattern:
        file_patterns(request.file_pattern, "--file-pattern")
        spec = replace(spec, file=(request.file_pattern,))
    if request.size:
        spec = replace(spec, height=request.size[0], width=request.size[1])
    if request.channels:
        spec = replace(spec, channels=request.channels)
    return replace(spec, strip_prefix=request.strip_prefix or spec.strip_prefix)


def _tables(source: Path, request: ImportRequest, form: TableFormat) -> list[_Table]:
    """Return the table, the only one of a folder, or each metadata file of its parts."""
    found: list[tuple[Path, Part | None]] = [(source, None)]
    if source.is_dir():
        tops = parts_of(source) or [(source, None)]
        files = [(top / name, part) for top, part in tops for name in METADATA]
        found = [(file, part) for file, part in files if file.is_file()]
        if not found:
            found = [(source if request.name_pattern else only_table(source), None)]
        if {part for _, part in found} == {"train"}:
            found = [(file, None) for file, _ in found]
    for folder in request.images:
        if not folder.is_dir():
            raise WrongArchive(f"there is no folder {folder}")
    return [
        _Table(open_rows(path, form), request.images or _beside(path), part) for path, part in found
    ]


def _beside(path: Path) -> tuple[Path, ...]:
    """Return where the images of a table lie, if nothing is stated."""
    folder = path if path.is_dir() else path.parent
    return (folder / "images", folder) if (folder / "images").is_dir() else (folder,)


def _columns(
    tables: Sequence[_Table],
    request: ImportRequest,
    content: Mapping[str, Any] | None,
    form: TableFormat,
    spec: ImageSpec,
) -> _Columns:
    first = tables[0].rows
    pattern = _name_pattern(request.name_pattern)
    groups = list(pattern.groupindex) if pattern else []
    if twice := [name for name in groups if name in first.columns]:
        raise WrongArchive(f"{twice[0]!r} is a column and a group of --name-pattern")
    person = request.person_id or (content["person_id"] if content else None)
    image = request.file_column or (content["image"]["column"] if content else None)
    if not request.file_column and image not in first.columns:
        usual = [name for name in ("file_name", FILE) if name in first.columns or not first.columns]
        image = usual[0] if usual else person if spec.file else image
    if image is None:
        raise WrongArchive("--file-column is needed: the column that names the image files")
    person = image if request.unit == "image" else person
    if person is None:
        raise WrongArchive(
            "--person-id is needed, the column or group of --name-pattern that names the person, "
            "or --unit image, if each image is a person of its own"
        )
    image, person = clean_name(image), clean_name(person)
    bodies = _attributes(tables, request, content, {person, image, *form.ignore}, form)
    columns = _Columns(person, image, bodies, pattern)
    for table in tables:
        known = table.rows.columns
        if known and (absent := [name for name in columns.needed if name not in known]):
            raise WrongArchive(f"there is no column {absent[0]!r} in the table (see --separator)")
        if twice := [name for name in columns.needed if known.count(name) > 1]:
            raise WrongArchive(f"the column {twice[0]!r} occurs twice in the table")
    return columns


def _attributes(
    tables: Sequence[_Table],
    request: ImportRequest,
    content: Mapping[str, Any] | None,
    taken: set[str],
    form: TableFormat,
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the column and the declaration of each attribute by name."""
    stated = domains.declared(request)
    if content is not None:
        if stated:
            raise WrongArchive("--schema declares the attributes already")
        return {
            name: (
                clean_name(str(body.get("column", name))),
                {key: value for key, value in body.items() if key != "column"},
            )
            for name, body in content["attributes"].items()
        }
    if request.public and form.ignore != ALL_OTHERS:
        first = tables[0].rows
        rest = [name for name in first.columns if name not in taken | set(stated)]
        stated |= domains.suggested(rest, lambda: first.read(rest), form)
    if not stated:
        raise WrongArchive(
            "--categories and --edges are needed (or --schema): the columns to keep and what they "
            "may hold, as it may be published"
        )
    named: dict[str, tuple[str, Mapping[str, Any]]] = {
        attribute_name(column): (column, body) for column, body in stated.items()
    }
    if len(named) < len(stated):
        raise WrongArchive("two columns have names that differ only in special characters")
    return named


def _name_pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error:
        raise WrongArchive(f"--name-pattern {text!r} is not a regular expression") from None
    if not pattern.groupindex:
        raise WrongArchive("--name-pattern needs named groups, such as '(?P<age>[0-9]+)_'")
    return pattern


def _type(own: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type in which a column of these files is written: their own, or text."""
    kinds = {kind.value_type if pa.types.is_dictionary(kind) else kind for kind in own}
    return kinds.pop() if len(kinds) == 1 else pa.string()


def _row(
    cells: Mapping[str, object] | BrokenRow,
    table: _Table,
    columns: _Columns,
    types: Mapping[str, pa.DataType],
    form: TableFormat,
    spec: ImageSpec,
) -> Row | BrokenRow:
    if isinstance(cells, BrokenRow):
        return cells
    image = cells.get(columns.image)
    if columns.pattern:
        found = columns.pattern.search(image) if isinstance(image, str) else None
        if found is None:
            return _NO_FIT
        cells = {**cells, **found.groupdict()}
    person = cells.get(columns.person)
    person = person.get("path") if isinstance(person, dict) else person
    name = canonical_id(person) if isinstance(person, str | int | float) else None
    # A number, such as -9, means "absent" in attributes, but not as an id.
    if name is None or (name in form.missing_values and number_text(name) is None):
        return _NO_PERSON
    if columns.person == columns.image and table.part:
        name = f"{table.part}/{name}"
    return Row(
        person=name,
        record={
            attribute: _cell(cells.get(column), types[attribute])
            for attribute, (column, _) in columns.attributes.items()
        },
        image=partial(image_content, table.folders, image, spec),
        part=table.part,
    )


def _cell(value: object, kind: pa.DataType) -> object:
    text = category_text(value)
    return text if text is None or pa.types.is_string(kind) else value
