"""Domains suggested by the values of a table that its owner declares public.

Never for private data: the lists and bounds are computed from the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from dagster_project.data.raw_values import category_text
from dagster_project.starting.folder import UnknownFolder, open_table

MAX_CATEGORIES = 50
MAX_CODES = 10  # so many distinct whole numbers are codes rather than quantities
BINS = 8


def domain(values: Iterable[object]) -> dict[str, Any] | None:
    """Return an attribute's entry in schema.yaml for public values, None if they are free text.

    >>> domain(["f", "m", "f", None])
    {'kind': 'categorical', 'categories': ['f', 'm'], 'missing': True}
    >>> domain([str(age) for age in range(3, 77)])["edges"]
    [0, 10, 20, 30, 40, 50, 60, 70, 80]
    """
    texts = ["" if value is None else str(value).strip() for value in values]
    present = [text for text in texts if text and text.lower() != "nan"]
    missing = {"missing": True} if len(present) < len(texts) else {}
    distinct = sorted(set(present))
    numbers = [_number(text) for text in distinct]
    if distinct and all(number is not None for number in numbers):
        found = [number for number in numbers if number is not None]
        codes = all(number.is_integer() for number in found) and len(found) <= MAX_CODES
        if not codes and min(found) < max(found):
            edges = round_edges(min(found), max(found))
            return {"kind": "numeric", "edges": edges, "out_of_domain": "clamp"} | missing
        distinct = sorted(distinct, key=lambda text: (_number(text) or 0.0, text))
    few = len(distinct) <= MAX_CATEGORIES and 2 * len(distinct) <= max(len(present), 4)
    if not few or len(distinct) + bool(missing) < 2:
        return None
    return {"kind": "categorical", "categories": distinct} | missing


def domains_of(file: Path) -> dict[str, dict[str, Any]]:
    """Return the entry of each column of a public CSV or Parquet file that has a domain.

    Raises:
        UnknownFolder: It is no such file.
    """
    table = open_table(file)
    wanted = [name for name, kind in table.columns.items() if kind != "image"]
    try:
        if not table.delimiter:
            frame = pd.read_parquet(file, columns=wanted)
        else:
            frame = pd.read_csv(
                file, sep=table.delimiter, encoding=table.encoding, dtype=str, keep_default_na=False
            )
    except (OSError, ValueError, pa.ArrowException):
        raise UnknownFolder(f"{file.name} cannot be read as a table") from None
    found = {name: domain(map(category_text, frame[name])) for name in wanted if name in frame}
    return {name: body for name, body in found.items() if body is not None}


def round_edges(low: float, high: float) -> list[float]:
    """Return round edges, 4 to 11 bins of equal width, that cover [low, high], low < high."""
    width = (high - low) / BINS
    power = 10.0 ** math.floor(math.log10(width))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda step: abs(math.log(step / width)))
    first, last = math.floor(low / step), math.ceil(high / step)
    edges = [float(f"{i * step:.12g}") for i in range(first, last + 1)]
    return [int(edge) if edge.is_integer() else edge for edge in edges]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
