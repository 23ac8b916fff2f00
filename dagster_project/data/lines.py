"""Text files read line by line: a line is a row, and no line changes the meaning of another.

A parser of whole files lets one record affect others: an open quote joins everything that follows
into one field, so that one person's record would decide who else is in the data. Here the bytes
are first cut into physical lines, at every line feed and nowhere else, and each line is decoded
and parsed by itself. A line that does not parse is one broken row. What holds for the whole file is
declared in the schema (`table_format`) or decided by its first line: a byte order mark before it,
the column names and the number of fields. Excel's line "sep=;" before the names must agree with the
declared delimiter.

So files that differ by one line differ by one row, and the neighbouring relation of the data
(one person added or removed) covers it: **one line added or removed changes the pairs of at most
one person, the one whom that line names**; one line replaced by another changes those of at most
two. A line that names somebody else is a row of that other person. Therefore these files cannot
hold a used field with a line break: its pieces are separate lines, and a piece that happens to be a
whole record counts for the person whom it names. Parquet has no such pieces.

The bytes of a line have these effects, all within that line:

* One carriage return before the line feed belongs to the line's end; any other, a NUL, and a byte
  order mark break the line. (Files with only carriage returns, in UTF-32, or in UTF-16 without the
  declaration, thereby have a broken first line, and are refused before a record is read.)
* Bytes outside the declared encoding break the line. In UTF-16, a line is a sequence of two-byte
  units, and a line feed is one of them.
* More than `LINE_LIMIT` bytes break the line; it is never held in memory as a whole.
* Quotes must enclose a whole field, and are doubled inside it (RFC 4180, without its line breaks);
  any other quote breaks the line, and so does a number of fields that differs from the first
  line's. Declared trailing delimiters are cut off first.
* If line breaks in ignored texts are declared, a quote may stay open behind the last used field,
  and a line that does not parse is the rest of such a text and no row, unless the reason is its
  encoding.
* An empty line is not a row.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dagster_project.data.table_format import STANDARD, TableFormat, clean_name

LINE_LIMIT = 2**17


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be used.

    Attributes:
        reason: One of a fixed set of reasons; it contains nothing of the row.
    """

    reason: str


CONTROL = BrokenRow("line with a carriage return, a NUL or a byte order mark")
TOO_LONG = BrokenRow("line that is too long")
NOT_UTF8 = BrokenRow("line that is not UTF-8")
NOT_ENCODED = BrokenRow("line that is not in the declared encoding")
QUOTE = BrokenRow("line with an open or stray quote")
WIDTH = BrokenRow("line with a wrong number of fields")
DELIMITER = BrokenRow("line that names another delimiter than the schema")


def text_lines(file: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str | BrokenRow]]:
    """Yield the number, from 1, and text of each line; empty lines after the first are skipped."""
    with file.open("rb") as stream:
        codec, lines = _encoded_lines(stream, encoding)
        for number, line in enumerate(lines, 1):
            marked = number == 1 and line.startswith(codecs.BOM_UTF8)
            if marked and codec == "utf-8":
                line = line.removeprefix(codecs.BOM_UTF8)
            text = CONTROL if marked and codec != "utf-8" else _text(line, codec)
            if text or number == 1:
                yield number, text


def csv_rows(
    file: Path, table: TableFormat = STANDARD, used: Collection[str] = ()
) -> Iterator[tuple[int, list[str] | BrokenRow]]:
    """Yield the number and fields of each line of a CSV file from the header on, which is line 1.

    Args:
        file: The CSV file.
        table: Its declared form.
        used: The columns that are used, in the file or not. If the form declares line breaks, they
            may be in fields behind all of these, and the fields from there on are then empty.
    """
    lines = text_lines(file, table.encoding)
    first, header = _header(lines, table)
    yield 1, header
    names = header if isinstance(header, list) else []
    needed = max((i for i, name in enumerate(names, 1) if name in used), default=0)
    for number, text in lines:
        row = _row(text, table, len(names), needed)
        if row is not None:
            yield number - first + 1, row


def csv_header(file: Path, table: TableFormat = STANDARD) -> list[str] | BrokenRow:
    """Return the names in the header of a CSV file, none if it is empty; read no further."""
    _, header = next(csv_rows(file, table), (1, [""]))
    return [] if header == [""] else header


def csv_fields(text: str, table: TableFormat = STANDARD) -> list[str] | BrokenRow:
    """Return the fields of one line.

    >>> csv_fields('7,"a ""b"", c",')
    ['7', 'a "b", c', '']
    """
    if '"' not in text or table.quote == "none":
        return text.split(table.delimiter)
    pattern = _patterns(table.delimiter)
    if not pattern.line.fullmatch(text):
        return QUOTE
    fields = pattern.field.findall(text)
    return [f[1:-1].replace('""', '"') if f.startswith('"') else f for f in fields]


@dataclass(frozen=True, slots=True)
class _Patterns:
    line: re.Pattern[str]
    field: re.Pattern[str]
    cut: re.Pattern[str]


@cache
def _patterns(delimiter: str) -> _Patterns:
    d = re.escape(delimiter)
    content = r'"[^"]*+(?:""[^"]*+)*+'
    field = rf'(?:{content}"|[^"{d}]*+)'
    return _Patterns(
        line=re.compile(rf"{field}(?:{d}{field})*+"),
        field=re.compile(rf"(?:\A|(?<={d})){field}"),
        cut=re.compile(rf"((?:{field}{d})*+){content}"),
    )


def _header(
    lines: Iterator[tuple[int, str | BrokenRow]], table: TableFormat
) -> tuple[int, list[str] | BrokenRow]:
    """Return the number of the line with the columns' names, and the names."""
    number, text = next(lines, (1, ""))
    if separator := _declared_separator(text):
        if separator != table.delimiter:
            return number, DELIMITER
        number, text = next(lines, (2, ""))
    fields = text if isinstance(text, BrokenRow) else csv_fields(text, table)
    if isinstance(fields, BrokenRow):
        return number, fields
    names = [clean_name(name) for name in fields]
    return number, _without_empty(names, 1) if table.trailing_delimiters else names


def _row(
    text: str | BrokenRow, table: TableFormat, width: int, needed: int
) -> list[str] | BrokenRow | None:
    """Return the fields of one line, or None if it is the rest of a text with line breaks."""
    fields = text if isinstance(text, BrokenRow) else csv_fields(text, table)
    if table.trailing_delimiters and isinstance(fields, list):
        fields = _without_empty(fields, width)
    if isinstance(fields, list) and len(fields) != width:
        fields = WIDTH
    # Otherwise the rows of a file with another encoding would vanish without a trace.
    if (
        table.line_breaks
        and isinstance(fields, BrokenRow)
        and fields not in (NOT_UTF8, NOT_ENCODED)
    ):
        start = _fields_before_text(text, table)
        return start + [""] * (width - len(start)) if needed <= len(start) < width else None
    return fields


def _fields_before_text(text: str | BrokenRow, table: TableFormat) -> list[str]:
    """Return the fields before a quote that stays open until the line's end."""
    if isinstance(text, BrokenRow) or not (found := _patterns(table.delimiter).cut.fullmatch(text)):
        return []
    fields = csv_fields(found[1], table)
    return fields[:-1] if isinstance(fields, list) else []


def _declared_separator(text: str | BrokenRow) -> str:
    """Return the delimiter that Excel's first line states, or nothing if it is no such line."""
    found = None if isinstance(text, BrokenRow) else re.fullmatch(r'"?sep=(.)"?', text, re.I)
    return found[1] if found else ""


def _without_empty(fields: list[str], width: int) -> list[str]:
    """Cut empty fields off the end, as long as more than `width` are left."""
    while len(fields) > width and not fields[-1].strip():
        fields = fields[:-1]
    return fields


def _encoded_lines(stream: BinaryIO, encoding: str) -> tuple[str, Iterator[bytes]]:
    """Return the codec of single lines, and the physical lines."""
    if encoding != "utf-16":
        return encoding, _physical_lines(stream)
    mark = stream.read(2)
    if mark not in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        stream.seek(0)
    codec = "utf-16-be" if mark == codecs.BOM_UTF16_BE else "utf-16-le"
    return codec, _two_byte_lines(stream, np.dtype(">u2" if codec == "utf-16-be" else "<u2"))


def _physical_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their line feeds; of a line that is too long, only the first bytes."""
    while line := stream.readline(LINE_LIMIT + 1):
        yield line.removesuffix(b"\n")
        while len(line) > LINE_LIMIT and not line.endswith(b"\n"):
            line = stream.readline(LINE_LIMIT + 1)


def _two_byte_lines(stream: BinaryIO, unit: np.dtype) -> Iterator[bytes]:
    """Yield lines as `_physical_lines` does, where a line feed has two bytes."""
    line = b""
    while chunk := stream.read(LINE_LIMIT):
        units = np.frombuffer(chunk[: len(chunk) // 2 * 2], unit)
        start = 0
        for end in 2 * np.flatnonzero(units == ord("\n")):
            yield (line + chunk[start:end])[: LINE_LIMIT + 2]
            line, start = b"", int(end) + 2
        line = (line + chunk[start:])[: LINE_LIMIT + 2]
    if line:
        yield line


def _text(line: bytes, codec: str) -> str | BrokenRow:
    try:
        text, broken = line.decode(codec), None
    except UnicodeDecodeError:
        text = line.decode(codec, "replace")
        broken = NOT_UTF8 if codec == "utf-8" else NOT_ENCODED
    # A file of CR LF may end in CR, and was perhaps converted twice.
    text = text.rstrip("\r")
    # Checked first, so that a file without line feeds is refused for this, whatever it holds.
    if "\r" in text or "\0" in text:
        return CONTROL
    if len(line) > LINE_LIMIT:
        return TOO_LONG
    return broken or (CONTROL if "\ufeff" in text else text)
