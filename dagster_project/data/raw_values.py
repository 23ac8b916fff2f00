"""Raw values of a record as text or number, however the file stores them.

Nothing here raises: a value that is neither is absent. Domains and policies belong to `schema`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def category_text(value: object) -> str | None:
    """Return the category that a raw cell spells, or None if it is absent.

    Whole numbers lose the ".0" that they have in a column with nulls.
    """
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else str(value)
    return str(value)


def numbers(column: pd.Series) -> np.ndarray:
    """Return the column as float64 (N,), NaN if a cell is absent or not a number."""
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind != "c":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.fromiter(map(_number, column), np.float64, len(column))


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
    except (TypeError, ValueError):
        return float("nan")
