"""Raw values of a record as text or number, whatever the file made of them.

Nothing here raises: a value that is neither is absent. Domains and policies are in `schema`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def category_text(value: object) -> str | None:
    """The category a raw cell spells: whole numbers lose their ".0", which a column that also
    holds nulls gives them; None when absent."""
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
    """The column as float64 (N,), NaN where a cell is absent or no number."""
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
