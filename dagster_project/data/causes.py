"""The usual causes behind many faults of a file, each with the line of schema.yaml that cures it.

A table that another program exported tends to be wrong in one way everywhere: its separator, its
encoding, its quotes. Nothing here decides how a file is read. `header_cause` looks only for the
names that the schema states, in the first lines, and quotes others only if the first line is a
header, so that a release may print it; what `line_causes` says is private. `value_causes` explains
values.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from dagster_project.data.lines import (
    NOT_UTF8,
    QUOTE,
    WIDTH,
    BrokenRow,
    csv_fields,
    csv_header,
    text_lines,
)
from dagster_project.data.table_format import TableFormat, clean_name

_LINE = 2**16  # bytes of the first line that are looked at
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_MOST, _MANY = 0.5, 0.1  # shares of the lines from which on a cause is named
_NEAR = 0.8  # likeness from which on a name may be another one misspelled
_FIRST = 20  # lines among which the names of the columns are looked for
_NO_TEXT = {  # how files of other kinds begin
    b"PK\x03\x04": "an Excel workbook or another zip archive: save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save the sheet as CSV",
    b"PAR1": "a Parquet file: call it records.parquet",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"<": "HTML or XML: save the table as CSV",
    b"{": "JSON: save the table as CSV",
    b"[": "JSON: save the table as CSV",
}


def header_cause(
    file: Path, header: list[str] | BrokenRow, needed: Sequence[str], table: TableFormat
) -> str | None:
    """Return why the header of a CSV file lacks needed columns, or None if nothing is known.

    Args:
        file: The CSV file.
        header: Its header as it is read by the declared form.
        needed: The columns that the schema names and that must be there.
        table: The declared form.
    """
    if isinstance(header, list) and set(needed) <= set(header):
        return _unnamed(file.name, header, table)
    with file.open("rb") as stream:
        start = stream.readline(_LINE)
    if len(start.removeprefix(codecs.BOM_UTF8)) == 0:
        return f"{file.name} is empty: its first line must name the columns."
    for mark, what in _NO_TEXT.items():
        if start.startswith(mark):
            return f"{file.name} is {what}."
    if b"\r" in start and b"\n" not in start:
        return (
            f"{file.name} ends its lines with carriage returns alone, as old Macintosh programs "
            "do: save it with line feeds."
        )
    # If carriage returns end the lines, what follows the first one is a record.
    line = start.split(b"\r")[0]
    if table.encoding == "utf-16" and line[:1] == b"\0":
        return (
            f"{file.name} is UTF-16 in big-endian order and lacks the byte order mark that says "
            "so: save it with one, or as UTF-8 and state `table: {encoding: utf-8}`."
        )
    if line.startswith(codecs.BOM_UTF32_LE):
        return None
    if (line.startswith(_UTF16) or b"\0" in line) and table.encoding != "utf-16":
        return (
            f'{file.name} is encoded as UTF-16 (Excel\'s "Unicode text"): state '
            '`table: {encoding: utf-16, delimiter: "\\t"}` in schema.yaml, or save it as UTF-8.'
        )
    if table.encoding == "utf-8":
        try:
            line.decode()
        except UnicodeDecodeError:
            return (
                f"{file.name} is not UTF-8, and most likely Windows-1252: state "
                "`table: {encoding: cp1252}` in schema.yaml, or save it as UTF-8."
            )
    text = _first_line(file, table)
    if found := re.fullmatch(r'"?sep=(.)"?\s*', text, re.I):
        return (
            f"{file.name} says in Excel's first line that {found[1]!r} separates fields: state "
            f"`table: {{delimiter: {_yaml(found[1])}}}` in schema.yaml."
        )
    for separator, word in _SEPARATORS.items():
        names = {clean_name(column.strip('"')) for column in text.split(separator)}
        if separator != table.delimiter and 2 * len(set(needed) & names) > len(needed):
            return (
                f"{file.name} is separated by {word}, and the schema says {table.delimiter!r}: "
                f"state `table: {{delimiter: {_yaml(separator)}}}` in schema.yaml."
            )
    if not isinstance(header, list):
        return None
    return _misplaced(file, header, needed, table) or _alike(file.name, header, needed)


def _misplaced(
    file: Path, header: Sequence[str], needed: Sequence[str], table: TableFormat
) -> str | None:
    """Explain names that are not in the first line, or not between the declared delimiters."""
    wanted, text = set(needed), ",".join(header)
    lines = islice(text_lines(file, table.encoding), 1, _FIRST)
    for number, line in lines:
        fields = csv_fields(line, table) if isinstance(line, str) else None
        if isinstance(fields, list) and wanted <= set(map(clean_name, fields)):
            return (
                f"{file.name} names its columns in line {number}: delete the lines before it, such "
                "as a title."
            )
    if wanted <= set(text.split()):
        return f"{file.name} is separated by spaces, which is not read: save it with commas."
    if wanted <= {name.strip("'") for name in header}:
        return f"{file.name} encloses fields in single quotes: save it with double quotes."
    if not wanted & set(map(str.casefold, header)) and not wanted & set(header):
        return (
            f"the first line of {file.name} names none of the schema's columns, and may be a "
            "record: add a line with the names, or state the names that it has as `person_id` and "
            "`column: ...` of the attributes."
        )
    return None


def _first_line(file: Path, table: TableFormat) -> str:
    _, text = next(text_lines(file, table.encoding), (1, ""))
    return "" if isinstance(text, BrokenRow) else text[:_LINE]


def _yaml(separator: str) -> str:
    return '"\\t"' if separator == "\t" else f'"{separator}"'


def _unnamed(name: str, header: Sequence[str], table: TableFormat) -> str | None:
    """Explain a column without a name beside all needed ones."""
    if not table.unknown([column for column in header if column == ""], ()):
        return None
    if header[0] == "":
        return (
            f"{name} begins with an index column without a name, as pandas writes it: state "
            '`table: {ignore: [""]}` in schema.yaml, or write the file with `to_csv(index=False)`.'
        )
    return (
        f"{name} has a delimiter at the end of its first line: state "
        "`table: {trailing_delimiters: true}` in schema.yaml."
    )


def _alike(name: str, header: Sequence[str], needed: Sequence[str]) -> str | None:
    """Explain names that differ in upper and lower case, or a little if most others are there."""
    absent = [column for column in needed if column not in header]
    cased = {column.casefold(): column for column in header if column not in needed}
    for column in absent:
        wanted = column.casefold()
        found = [wanted] if wanted in cased else []
        if not found and 2 * len(absent) <= len(needed):
            found = [other for other in cased if wanted in re.split(r"[\W_]+", other)]
            found = found or get_close_matches(wanted, cased, n=1, cutoff=_NEAR)
        if found:
            return (
                f"{name} lacks the column {column!r} but has {cased[found[0]]!r}: if that is it, "
                "state this spelling in schema.yaml, as `person_id`, or as `column: ...` of the "
                "image or attribute."
            )
    return None


def line_causes(file: Path, table: TableFormat, broken: Mapping[str, int], rows: int) -> list[str]:
    """Explain the lines of a CSV file that do not parse. Private.

    Args:
        file: The CSV file.
        table: Its declared form.
        broken: How many lines there are for each reason.
        rows: How many lines there are in all.
    """
    wide, quotes = broken.get(WIDTH.reason, 0), broken.get(QUOTE.reason, 0)
    found = []
    if foreign := broken.get(NOT_UTF8.reason, 0):
        found.append(
            f"{file.name}: {foreign:,} of {rows:,} rows are not UTF-8. If they are Windows-1252, "
            "as Western Excel writes it, state `table: {encoding: cp1252}`."
        )
    escaped = quotes and _share(file, table, lambda text: '\\"' in text) >= _MANY
    if wide and wide >= _MOST * rows and _end_empty(file, table):
        found.append(
            f"{file.name}: {wide:,} of {rows:,} rows end in a delimiter that the first line lacks, "
            "so that they have one field too many: state `table: {trailing_delimiters: true}`."
        )
    elif wide > 1 and wide >= _MANY * rows and not quotes:
        found.append(
            f"{file.name}: {wide:,} of {rows:,} rows have another number of fields than the first "
            f"line, as texts with {table.delimiter!r} inside and no quotes around them have: save "
            "the table with quotes, or as Parquet."
        )
    if escaped:
        found.append(
            f"{file.name}: quotes inside texts follow a backslash and must be doubled instead: "
            "save the table so (pandas: `escapechar=None`), or as Parquet."
        )
    elif quotes > 1 and quotes + wide >= _MOST * rows:
        found.append(
            f"{file.name}: {quotes:,} of {rows:,} lines begin or end within quotes, as texts with "
            "line breaks do: state `table: {line_breaks: true}` if only ignored columns behind the "
            "used ones hold them, or save the table as Parquet."
        )
    return found


def _share(file: Path, table: TableFormat, holds: Callable[[str], bool]) -> float:
    """Return the share of the first thousand rows of which something holds."""
    texts = [text for _, text in islice(text_lines(file, table.encoding), 1, 1001)]
    return sum(isinstance(text, str) and holds(text) for text in texts) / max(len(texts), 1)


def _end_empty(file: Path, table: TableFormat) -> bool:
    """Return whether most rows have one field more than the header, an empty one."""
    header = csv_header(file, table)
    width = len(header) if isinstance(header, list) else 0
    texts = islice(text_lines(file, table.encoding), 2, 1000)
    rows = [csv_fields(text, table) for _, text in texts if isinstance(text, str)]
    return 2 * sum(isinstance(row, list) and row[width:] == [""] for row in rows) >= len(rows)
