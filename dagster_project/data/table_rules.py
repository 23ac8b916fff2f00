"""The rules of a schema's `table` section, with one clear sentence for each fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dagster_project.data.rules import SchemaError, flag, section
from dagster_project.data.table_format import (
    ALL_OTHERS,
    DELIMITERS,
    ENCODINGS,
    TableFormat,
    clean_name,
)

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "delimiter": DELIMITERS,
    "encoding": ENCODINGS,
    "quote": ("double", "none"),
    "decimal": (".", ","),
    "thousands": ("", ",", ".", "'", " "),
}
_FLAGS = ("trailing_delimiters", "line_breaks")


def table_format(content: Any) -> TableFormat:
    """Return the checked `table` section of a schema.

    Raises:
        SchemaError: Something is wrong.
    """
    content = dict(section(content, "table", {field.name for field in fields(TableFormat)}, set()))
    for key, choices in _CHOICES.items():
        if key in content and content[key] not in choices:
            named = ", ".join(map(repr, choices))
            raise SchemaError(f"table: {key} must be one of {named}.")
    for key in _FLAGS:
        flag(content.get(key, False), f"table: {key}")
    if "missing_values" in content:
        content["missing_values"] = texts(content["missing_values"], "table: missing_values")
    if content.get("ignore", ALL_OTHERS) != ALL_OTHERS:
        ignored = texts(content["ignore"], "table: ignore", empty=True)
        content["ignore"] = tuple(map(clean_name, ignored))
    table = TableFormat(**content)
    if table.thousands == table.decimal:
        raise SchemaError("table: decimal and thousands must differ.")
    if table.line_breaks and table.quote == "none":
        raise SchemaError("table: line_breaks needs quotes around the texts (quote: double).")
    return table


def texts(given: Any, where: str, *, empty: bool = False) -> tuple[str, ...]:
    """Return a list of texts without outer spaces, as YAML or Python holds it."""
    if not isinstance(given, list) or any(
        isinstance(text, bool) or not isinstance(text, str | int | float) for text in given
    ):
        raise SchemaError(f"{where} must be a list of texts; quote them.")
    found = tuple(str(text).strip() for text in given)
    if not empty and "" in found:
        raise SchemaError(f"{where}: the empty text need not be listed.")
    return found


def column_name(given: Any, where: str) -> str:
    """Return the name of a column, which may be any text of one line."""
    if not isinstance(given, str) or not given.isprintable() or not 1 <= len(given.strip()) <= 200:
        raise SchemaError(f"{where} must be a text of 1 to 200 printable characters.")
    return clean_name(given)
