"""The layout of records and images in a data folder, found without reading a record.

Three layouts are known: train.parquet (and heldout.parquet) with image bytes; records.parquet with
image bytes; records.csv or records.parquet beside a folder images/. Files may be links into the
cache that the schema declares, as DVC makes them, and no other links. `rows` streams the rows, and
`reading` decides what a row means.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.data.causes import header_cause
from dagster_project.data.image_files import leads_into
from dagster_project.data.lines import BrokenRow, csv_header
from dagster_project.data.schema import Attribute, Schema
from dagster_project.data.table_format import clean_name

RECORD_FILES = ("train.parquet", "records.parquet", "records.csv")
_COMPRESSIONS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "LZ4", "LZ4_RAW", "ZSTD")


@dataclass(frozen=True)
class Layout:
    """The files of a data folder.

    Attributes:
        records: The file of training records (or of all records, where `heldout` is None).
        heldout: The file of held-out records, if there is one.
        images: The folder of images, unless the records hold their bytes.
        image_column: Whether the records name or hold the image; otherwise the person id names it.
        cache: The folder into which files may be links, with all links on its path resolved.
    """

    records: Path
    heldout: Path | None
    images: Path | None
    image_column: bool
    cache: Path | None = None


def find_layout(data_dir: str | Path, schema: Schema) -> tuple[Layout | None, list[str]]:
    """Find the layout from file names, the Parquet footer's schema and the CSV header.

    No record is read.

    Returns:
        (layout, faults): the layout is None if the faults allow none; each fault is one sentence
        that holds only file and column names.
    """
    folder = Path(data_dir)
    if ".." in folder.parts:
        return None, ["The path of the data folder must not contain '..'."]
    if folder.is_symlink():
        return None, ["The data folder is a symbolic link; name the folder itself."]
    if not folder.is_dir():
        return None, [f"There is no data folder {folder.name!r}."]
    found = [folder / name for name in RECORD_FILES if _exists(folder / name)]
    if len(found) != 1:
        names = ", ".join(RECORD_FILES)
        many = "more than one" if found else "none"
        return None, [
            f"The data folder must hold exactly one of {names}; it holds {many}. A text "
            "table is called records.csv whatever its delimiter; save a spreadsheet as one."
        ]
    records, heldout = found[0], folder / "heldout.parquet"
    files = [records, heldout] if _exists(heldout) else [records]
    cache = link_cache(folder, schema)
    faults: list[str] = []
    if cache and Path(os.path.realpath(folder)).is_relative_to(cache):
        faults.append("image.link_cache must not be a folder that contains the data folder.")
    types: dict[Path, pa.DataType | None] = {}
    for file in files:
        types[file], some = _file_faults(file, schema, cache)
        faults += some
    in_folder = {kind is None or _names_files(kind) for kind in types.values()}
    if not faults and len(in_folder) > 1:
        faults.append("One record file holds the images' bytes and the other does not.")
    images = folder / "images"
    if True in in_folder:
        if images.is_symlink():
            faults.append("images is a symbolic link; it must be a folder.")
        elif not images.is_dir():
            faults.append("The records hold no image bytes, and there is no folder images.")
    layout = Layout(
        records=records,
        heldout=heldout if heldout in files else None,
        images=images if True in in_folder else None,
        image_column=types[records] is not None,
        cache=cache,
    )
    return (None if faults else layout), faults


def column_faults(data_dir: str | Path, schema: Schema) -> list[str]:
    """Return the faults of files, columns and types that can be found without reading a record."""
    return find_layout(data_dir, schema)[1]


def empty_frame(layout: Layout, schema: Schema) -> pd.DataFrame:
    """Return the training records' columns with their types and no row, without ignored ones."""
    if layout.records.suffix == ".parquet":
        frame = pq.read_schema(layout.records).empty_table().to_pandas()
    else:
        header = csv_header(layout.records, schema.table)
        frame = pd.DataFrame(columns=header if isinstance(header, list) else [])
    frame = frame.rename(columns=clean_name)
    wanted = schema.used
    unknown = schema.table.unknown(frame.columns, wanted)
    return frame[[name for name in frame.columns if name in wanted or name in unknown]]


def link_cache(folder: Path, schema: Schema) -> Path | None:
    """Return the folder into which links may lead, with its own path resolved, if one is stated."""
    stated = schema.image.link_cache
    return Path(os.path.realpath(folder / stated)) if stated else None


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _file_faults(
    file: Path, schema: Schema, cache: Path | None
) -> tuple[pa.DataType | None, list[str]]:
    """Return the type of the image column (None if absent, null if unknown) and a file's faults."""
    wanted, image = schema.used, clean_name(schema.image.column)
    # Without image bytes, the column may be absent: the person id then names the image.
    optional = {image} if file.name.startswith("records") else set()
    needed = [name for name in wanted if name not in optional]
    if not file.is_file() or (file.is_symlink() and not leads_into(file, cache)):
        return pa.null(), [
            f"{file.name} must be a plain file, not a link (image.link_cache can state the folder "
            "into which links may lead)."
        ]
    try:
        if file.suffix == ".parquet":
            if fault := _footer_fault(file):
                return pa.null(), [fault]
            arrow = pq.read_schema(file)
            names = [clean_name(name) for name in arrow.names]
            types = dict(zip(names, arrow.types, strict=True))
        else:
            header = csv_header(file, schema.table)
            if cause := header_cause(file, header, needed, schema.table):
                return pa.null(), [cause]
            if isinstance(header, BrokenRow):
                return pa.null(), [_header_fault(file, header, schema)]
            names, types = header, dict.fromkeys(header, pa.string())
    except (OSError, ValueError, pa.ArrowException):
        return pa.null(), [f"{file.name} cannot be read as {file.suffix[1:].upper()}."]
    absent = [name for name in needed if name not in types]
    faults = [f"{file.name} lacks the column {name!r}." for name in absent]
    # If the header was forgotten, the first line of a CSV file is a record: do not quote it.
    quote = ": {!r:.200}" if file.suffix == ".parquet" or not absent else ""
    if extra := schema.table.unknown(types, wanted):
        faults.append(
            f"{file.name} has columns that the schema lacks{quote.format(extra)}. List those that "
            "are not used under `table: {ignore: [...]}`, or `ignore: all others`."
        )
    if twice := [name for name in types if names.count(name) > 1 and name in (*wanted, *extra)]:
        faults.append(f"{file.name} has columns that occur twice{quote.format(twice)}.")
    if file.suffix == ".parquet":
        faults += [
            f"{file.name}: the column {name!r} has the type {types[name]}, which cannot be read"
            f"{_cure(_plain(types[name]), name, schema)}."
            for name in wanted
            if name in types and not _fits(types[name], name, schema)
        ]
    return (pa.null() if image in absent else types.get(image)), faults


def _header_fault(file: Path, broken: BrokenRow, schema: Schema) -> str:
    table = schema.table
    return (
        f"{file.name} cannot be read as CSV: its first line is a {broken.reason}. By the schema, "
        f"lines are {table.encoding} with {table.delimiter!r} between fields, and end in a line "
        "feed; declare UTF-16 or Windows-1252 as `table: {encoding: utf-16}` or `cp1252`."
    )


def _footer_fault(file: Path) -> str | None:
    """Return the damage that the footer reveals, or None.

    Columns may reach beyond the file or use an unsupported compression. What the footer says of
    their values is not looked at.
    """
    metadata, size = pq.read_metadata(file), file.stat().st_size
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            # A column chunk without values may have no page, which is written as position 0.
            pages = filter(None, (column.dictionary_page_offset, column.data_page_offset))
            first, length = min(pages, default=4), column.total_compressed_size
            if length < 0 or not 4 <= first <= size - length:
                return f"{file.name} is damaged: its footer refers to places outside the file."
            if column.compression not in _COMPRESSIONS:
                return f"{file.name} is compressed as {column.compression}, which cannot be read."
    return None


def _fits(kind: pa.DataType, name: str, schema: Schema) -> bool:
    kind = _plain(kind)
    if name == clean_name(schema.image.column):
        if pa.types.is_struct(kind):
            where = kind.get_field_index("bytes")
            kind = kind.field(where).type if where >= 0 else pa.null()
        return _names_files(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if name == schema.person_id:
        return _is_text(kind) or pa.types.is_integer(kind)
    attribute: Attribute = next(a for a in schema.attributes if a.column == name)
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    time = pa.types.is_date(kind) or pa.types.is_timestamp(kind)
    plain = number or _is_text(kind) or pa.types.is_null(kind)
    if attribute.form == "date":
        return plain or time
    if attribute.group and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return _is_text(kind.value_type)
    return plain or (attribute.kind == "categorical" and (time or pa.types.is_boolean(kind)))


def _cure(kind: pa.DataType, name: str, schema: Schema) -> str:
    """Return what to do about a column of a type that does not fit, if that is known."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ": write it as texts"
    if name == schema.person_id:
        return ": write ids as whole numbers or as texts"
    if name not in schema.columns:
        return ": images are bytes, or the names of files as texts"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return ": declare `kind: date`"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return ": declare `kind: labels`, or write one value for each row"
    return ": declare `kind: boolean`" if pa.types.is_boolean(kind) else ": write it as numbers"


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _names_files(kind: pa.DataType) -> bool:
    """Return whether a column of images holds names, or numbers that serve as such."""
    kind = _plain(kind)
    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
