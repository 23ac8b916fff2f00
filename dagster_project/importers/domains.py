"""Attributes and their domains as the user declares them, or as public values suggest them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dagster_project.data.lines import BrokenRow
from dagster_project.data.raw_values import category_text, number
from dagster_project.data.table_format import STANDARD, TableFormat
from dagster_project.importers.archive import ImportRequest, WrongArchive
from dagster_project.starting.public_values import domain

Record = Mapping[str, object]


def declared(request: ImportRequest) -> dict[str, dict[str, Any]]:
    """Return the attributes of --categories and --edges by column, as in schema.yaml.

    An empty cell is a value of its own, and numbers are clamped to the outer edges.

    Raises:
        WrongArchive: A column is declared twice.
    """
    known: dict[str, dict[str, Any]] = {}
    for column, categories in request.categories:
        known.setdefault(column, {"kind": "categorical", "categories": list(categories)})
    for column, edges in request.edges:
        known.setdefault(
            column, {"kind": "numeric", "edges": list(edges), "out_of_domain": "clamp"}
        )
    if len(known) < len(request.categories) + len(request.edges):
        raise WrongArchive("a column is declared twice in --categories and --edges")
    return {column: {**body, "missing": True} for column, body in known.items()}


def suggested(
    columns: Sequence[str],
    rows: Callable[[], Iterable[Record | BrokenRow]],
    form: TableFormat = STANDARD,
) -> dict[str, dict[str, Any]]:
    """Return attributes by column from the values of all rows, which must be public."""
    values: dict[str, list[object]] = {column: [] for column in columns}
    for row in rows():
        if not isinstance(row, BrokenRow):
            for column, found in values.items():
                found.append(_plain(row.get(column), form))
    bodies = {column: domain(found) for column, found in values.items()}
    return {column: body for column, body in bodies.items() if body is not None}


def _plain(value: object, form: TableFormat) -> str | None:
    text = category_text(value)
    if text is None or text in form.missing_values:
        return None
    return text if math.isnan(number(text, form.decimal)) else text.replace(form.decimal, ".")
