"""Text files read line by line: a line is a row, and no line changes the meaning of another.

A parser of whole files lets one record affect others: an open quote joins everything that follows
into one field, so that one person's record would decide who else is in the data. Here the bytes
are first cut into physical lines, at every line feed and nowhere else, and each line is decoded
and parsed by itself. A line that does not parse is one broken row. Properties of the whole file are
decided by its first line only: that it is UTF-8, a byte order mark before it, the column names and
the number of fields.

So files that differ by one line differ by one row, and the neighbouring relation of the data
(one person added or removed) covers it: **one line added or removed changes the pairs of at most
one person, the one whom that line names**; one line replaced by another changes those of at most
two. A line that names somebody else is a row of that other person. Therefore these files cannot
hold a field with a line break: its pieces are separate lines, and a piece that happens to be a
whole record counts for the person whom it names. Parquet has no such pieces.

The bytes of a line have these effects, all within that line:

* One carriage return before the line feed belongs to the line's end; any other, a NUL, and a byte
  order mark break the line. (Files with only carriage returns, in UTF-16 or in UTF-32 thereby have
  a broken first line, and are refused before a record is read.)
* Bytes that are not UTF-8, such as accented letters of Windows-1252, break the line.
* More than `LINE_LIMIT` bytes break the line; it is never held in memory as a whole.
* Quotes must enclose a whole field, and are doubled inside it (RFC 4180, without its line breaks);
  any other quote breaks the line, and so does a number of fields that differs from the first
  line's.
* An empty line is not a row.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LINE_LIMIT = 2**17

_FIELD = r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",]*+)'
_FIELDS = re.compile(rf"{_FIELD}(?:,{_FIELD})*+")
_NEXT_FIELD = re.compile(rf"(?:\A|(?<=,)){_FIELD}")


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
QUOTE = BrokenRow("line with an open or stray quote")
WIDTH = BrokenRow("line with a wrong number of fields")


def text_lines(file: Path) -> Iterator[tuple[int, str | BrokenRow]]:
    """Yield the number, from 1, and text of each line; empty lines after the first are skipped."""
    with file.open("rb") as stream:
        for number, line in enumerate(_physical_lines(stream), 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            text = _text(line)
            if text or number == 1:
                yield number, text


def csv_rows(file: Path) -> Iterator[tuple[int, list[str] | BrokenRow]]:
    """Yield the number and fields of each line of a CSV file, the header first."""
    width = 0
    for number, text in text_lines(file):
        fields = text if isinstance(text, BrokenRow) else csv_fields(text)
        if isinstance(fields, list):
            if number == 1:
                width = len(fields)
            elif len(fields) != width:
                fields = WIDTH
        yield number, fields


def csv_header(file: Path) -> list[str] | BrokenRow:
    """Return the names in the first line of a CSV file, none if it is empty; read no further."""
    _, header = next(csv_rows(file), (1, [""]))
    return [] if header == [""] else header


def csv_fields(text: str) -> list[str] | BrokenRow:
    """Return the fields of one line.

    >>> csv_fields('7,"a ""b"", c",')
    ['7', 'a "b", c', '']
    """
    if '"' not in text:
        return text.split(",")
    if not _FIELDS.fullmatch(text):
        return QUOTE
    fields = _NEXT_FIELD.findall(text)
    return [f[1:-1].replace('""', '"') if f.startswith('"') else f for f in fields]


def _physical_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their line feeds; of a line that is too long, only the first bytes."""
    while line := stream.readline(LINE_LIMIT + 1):
        yield line.removesuffix(b"\n")
        while len(line) > LINE_LIMIT and not line.endswith(b"\n"):
            line = stream.readline(LINE_LIMIT + 1)


def _text(line: bytes) -> str | BrokenRow:
    too_long = len(line) > LINE_LIMIT
    line = line.removesuffix(b"\r")
    # Checked first, so that a file without line feeds is refused for this, whatever it holds.
    if b"\r" in line or b"\0" in line:
        return CONTROL
    if too_long:
        return TOO_LONG
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return CONTROL if "\ufeff" in text else text
