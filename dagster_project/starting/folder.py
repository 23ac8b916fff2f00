"""What can be seen of a folder without a value: file types, column names and Parquet types.

Of a CSV file only the first line is read, which must hold column names: one that looks like a
record is refused and not quoted.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.data.layout import RECORD_FILES
from dagster_project.data.lines import LINE_LIMIT

Kind = Literal["text", "number", "integer", "boolean", "date", "image", "unknown"]
TEXT_TABLES = (".csv", ".tsv", ".tab", ".txt")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".dcm")
SHEETS = (".xlsx", ".xls", ".ods", ".sav", ".dta", ".sas7bdat")
_DELIMITERS = ",;\t|"
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_VALUE = re.compile(
    r"[-+]?[\d.,]+|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}.*|.*\.(png|jpe?g|tiff?|dcm|webp)"
)


class UnknownFolder(ValueError):
    """No draft can be made of the folder; one sentence says why."""


@dataclass(frozen=True)
class Table:
    """A table's form.

    Attributes:
        path: The file.
        columns: The kind of each column; "unknown" in a text file, which has no types.
        delimiter, encoding: Those of the first line of a text file; "" for Parquet.
    """

    path: Path
    columns: Mapping[str, Kind]
    delimiter: str = ""
    encoding: str = ""


@dataclass(frozen=True)
class Look:
    """A folder's form.

    Attributes:
        table: Its table.
        pictures: Suffixes of the image files below it, in lower case.
        places: Folders that hold image files, relative to the folder.
        links: Whether some of these are links.
    """

    table: Table
    pictures: tuple[str, ...]
    places: tuple[str, ...]
    links: bool


def look(folder: Path, table: Path | None = None) -> Look:
    """Return the form of a folder, whose table is the given one or the only one.

    Raises:
        UnknownFolder: There is no table or more than one, or its columns cannot be told.
    """
    if not folder.is_dir():
        raise UnknownFolder(f"there is no folder {folder}")
    pictures: set[str] = set()
    places: set[str] = set()
    links = False
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found = [file for file in files if Path(file).suffix.lower() in PICTURES]
        pictures |= {Path(file).suffix.lower() for file in found}
        places |= {Path(place).relative_to(folder).as_posix()} if found else set()
        links = links or any(os.path.islink(os.path.join(place, file)) for file in found)
    return Look(
        table=open_table(table or only_table(folder)),
        pictures=tuple(sorted(pictures)),
        places=tuple(sorted(places)),
        links=links,
    )


def open_table(file: Path) -> Table:
    """Return the columns of a CSV or Parquet file.

    Raises:
        UnknownFolder: They cannot be read, or the first line is no header.
    """
    if file.suffix.lower() == ".parquet":
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowException):
            raise UnknownFolder(f"{file.name} cannot be read as Parquet") from None
        return Table(file, {field.name: _kind(field.type) for field in schema})
    encoding, line = _first_line(file)
    delimiter = max(_DELIMITERS, key=line.count)
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    if line.lower().startswith("sep="):
        raise UnknownFolder(f"{file.name} begins with a line sep=...: delete that line")
    if any(_VALUE.fullmatch(name.lower()) for name in names if name):
        raise UnknownFolder(
            f"the first line of {file.name} looks like a record: it must hold the column names"
        )
    if len(set(names)) < len(names) or len(names) < 2:
        raise UnknownFolder(f"{file.name} must have two or more columns with distinct names")
    return Table(file, dict.fromkeys(names, "unknown"), delimiter, encoding)


def only_table(folder: Path) -> Path:
    """Return the record file or the only table of a folder.

    Raises:
        UnknownFolder: There is none, or more than one.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    known = [folder / name for name in RECORD_FILES if folder / name in files]
    tables = known or [f for f in files if f.suffix.lower() in (*TEXT_TABLES, ".parquet")]
    if len(tables) == 1:
        return tables[0]
    if tables:
        raise UnknownFolder(
            f"{folder} holds {len(tables)} tables: name one of them (for init with --table)"
        )
    if any(file.suffix.lower() in SHEETS for file in files):
        raise UnknownFolder(f"{folder} holds a spreadsheet: save it as CSV (UTF-8) or Parquet")
    raise UnknownFolder(
        f"{folder} holds no table (.csv or .parquet); `dptabimage import` reads folders of images"
    )


def _first_line(file: Path) -> tuple[str, str]:
    """Return the encoding of the first line, and its text."""
    try:
        with file.open("rb") as stream:
            line = stream.readline(LINE_LIMIT)
    except OSError:
        raise UnknownFolder(f"{file.name} cannot be read") from None
    bom = next((bom for bom in _BOMS if line.startswith(bom)), b"")
    encoding = _BOMS.get(bom, "utf-8")
    if encoding == "utf-16":
        # The line feed's second byte may belong to the next character: it is left out.
        wide = "utf-16-le" if bom == codecs.BOM_UTF16_LE else "utf-16-be"
        return encoding, line.removeprefix(bom).decode(wide, "ignore").strip()
    try:
        return encoding, line.removeprefix(bom).decode().strip("\r\n")
    except UnicodeDecodeError:
        return "cp1252", line.decode("cp1252", "replace").strip("\r\n")


def _kind(kind: pa.DataType) -> Kind:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "date"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind):
        return "image"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    return "unknown"
