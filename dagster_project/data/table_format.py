"""The declared form of a table file: how bytes become the texts of cells.

All of it is public and stated in schema.yaml; nothing is guessed from the file. Cutting a file into
rows belongs to `lines` and `rows`, and the meaning of a cell to `attribute`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, Literal

ALL_OTHERS = "all others"
DELIMITERS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-16", "cp1252", "latin-1")


@dataclass(frozen=True)
class TableFormat:
    r"""The form of records.csv. Parquet knows it by itself, but for the last four.

    Attributes:
        delimiter: What separates fields: "," ";" "\t" or "|".
        encoding: "utf-8" (with or without a byte order mark), "utf-16" (little-endian unless its
            mark says otherwise), "cp1252" or "latin-1".
        quote: "double" if quotes enclose fields and are doubled inside them (RFC 4180), "none" if a
            quote is an ordinary character.
        trailing_delimiters: Whether lines may end in delimiters behind their last field.
        line_breaks: Whether ignored fields behind all used ones may contain line breaks.
        decimal: The decimal sign of numbers that are text, "." or ",".
        thousands: What separates thousands in numbers that are text: "," "." "'" or " "; nothing
            by default.
        missing_values: Texts of cells that mean "absent", besides the empty one.
        ignore: Columns that are not used, or "all others".
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    quote: Literal["double", "none"] = "double"
    trailing_delimiters: bool = False
    line_breaks: bool = False
    decimal: str = "."
    thousands: str = ""
    missing_values: tuple[str, ...] = ()
    ignore: tuple[str, ...] | str = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the declarations that differ from the defaults."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    def unknown(self, columns: Collection[str], wanted: Collection[str]) -> list[str]:
        """Return the columns that are neither wanted nor declared as ignored."""
        if self.ignore == ALL_OTHERS:
            return []
        return [name for name in columns if name not in wanted and name not in self.ignore]


STANDARD = TableFormat()


def clean_name(name: str) -> str:
    """Return a column's name without outer spaces, in Unicode NFC, as names are compared."""
    return unicodedata.normalize("NFC", name).strip()
