"""Audit of text files: does a broken line change how other lines are read?

Neighbouring data sets differ by one person, and their files by one line. If that line affects how
later lines are read, no sensitivity of a mechanism holds.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

from dagster_project.audits.finding import Finding
from dagster_project.data.lines import BrokenRow, csv_rows

HEADER = b"id,sex,note"
BROKEN = {
    "an open quote": b'0,m,"shadow left lung',
    "a stray quote": b'0,m,5" scar',
    "a carriage return": b"0,m,left\rlung",
    "a NUL": b"0,m,\0",
    "a byte order mark": b"\xef\xbb\xbf0,m,clear",
    "bytes that are not UTF-8": b"0,m,\xe4\xff",
    "a field too many": b"0,m,clear,",
    "a megabyte": b"0,m," + b"x" * 2**20,
}
Read = Callable[[Path], list[list[str]]]


def by_line(file: Path) -> list[list[str]]:
    """Return the rows after the header, as the product reads them."""
    return [row for number, row in csv_rows(file) if number > 1 and not isinstance(row, BrokenRow)]


def whole_file(file: Path) -> list[list[str]]:
    """Read with a planted fault: a parser in which an open quote swallows all that follows."""
    text = file.read_bytes().decode(errors="replace").replace("\0", "")
    try:
        return list(csv.reader(text.splitlines(keepends=True)))[1:]
    except csv.Error:  # one field is too long, so that nothing of the file is read
        return []


def rows_changed(read: Read, *, people: int) -> dict[str, int]:
    """Return for each broken line how many other rows it changes."""
    sound = [f"{i},f,clear".encode() for i in range(1, people + 1)]
    expected = [[str(i), "f", "clear"] for i in range(1, people + 1)]
    changed = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records.csv"
        for name, line in BROKEN.items():
            file.write_bytes(b"\n".join([HEADER, line, *sound, b""]))
            found = {tuple(row) for row in read(file)}
            changed[name] = sum(tuple(row) not in found for row in expected)
    return changed


def audit_rows(*, people: int = 3000) -> list[Finding]:
    """Audit the product's reader, and a parser of whole files that the audit must catch."""
    changed, planted = (rows_changed(read, people=people) for read in (by_line, whole_file))
    return [
        Finding(
            name="one line changes no other row",
            measured=f"at most {max(changed.values())} of {people} others' rows changed; by a "
            f"parser of whole files {max(planted.values())}",
            expected="0 changed; the planted parser is caught",
            holds=not any(changed.values()) and max(planted.values()) > people / 2,
            size=f"{len(BROKEN)} kinds of broken lines before {people} sound ones",
        )
    ]
