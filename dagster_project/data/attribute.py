"""One attribute of a record: raw values to the cells of its public domain, and back.

Every attribute becomes a finite set of cells, as the marginal-based mechanisms need (McKenna,
Sheldon & Miklau 2019, section 2). The whole schema belongs to `schema`, the rules of what may be
declared to `attribute_rules`, and the texts and numbers of single cells to `raw_values`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from dagster_project.data import raw_values
from dagster_project.data.label_columns import LabelColumn
from dagster_project.data.raw_values import AGE_UNITS, Spellings, category_text, date_of

MISSING = "missing"
FALLBACK = "fallback:"
TRUTH = ("false", "true")

_ARROW = {
    "text": pa.string(),
    "boolean": pa.bool_(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "date": pa.date32(),
    "age": pa.string(),
}
_KINDS = {"text": "categorical", "number": "numeric", "integer": "numeric"}


@dataclass(frozen=True)
class Attribute:
    """One column of the record and its public, finite domain.

    Attributes:
        name: Name of the attribute.
        kind: "categorical" or "numeric": how mechanisms and models treat it.
        form: What its values are in files: "text" or "boolean" (categorical), "number", "integer",
            "date" or "age" (numeric: days since 1970-01-01, and numbers of `unit`).
        column: The column that holds it.
        categories: The categories, in cell order (categorical only).
        edges: k + 1 increasing bin edges, both bounds included (numeric only). Bins are closed
            on the left, the last one on both sides.
        missing: Whether "missing" is an additional cell, always the last one.
        out_of_domain: What a value outside the domain becomes: "drop" (the row is dropped), "clamp"
            (to the nearer bound; numeric only), "fallback:<category>" or "missing".
        aliases: Further spellings of categories, each with its category.
        ignore_case: Whether the case of categories does not matter.
        missing_values: Texts that mean "absent".
        decimal: The decimal sign of numbers that are text.
        thousands: What separates thousands in numbers that are text, if anything does.
        suffix: A text, such as a unit, that may follow numbers (number and integer only).
        date_format: How dates that are text are written, as for `strptime`; ISO if empty.
        unit: The unit of ages.
        group: The column of labels of which this attribute is one (boolean only).
        label: The place of its label in the group.
    """

    name: str
    kind: Literal["categorical", "numeric"]
    form: Literal["text", "boolean", "number", "integer", "date", "age"]
    column: str
    categories: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    missing: bool = False
    out_of_domain: str = "drop"
    aliases: tuple[tuple[str, str], ...] = ()
    ignore_case: bool = False
    missing_values: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str = ""
    suffix: str = ""
    date_format: str = ""
    unit: str = ""
    group: LabelColumn | None = None
    label: int = 0

    @property
    def size(self) -> int:
        """Number of cells, including the missing one."""
        return self._bins + self.missing

    @property
    def labels(self) -> tuple[str, ...]:
        """One text label for each cell."""
        if self.kind == "categorical":
            labels = self.categories
        else:
            last = self._bins - 1
            labels = tuple(
                f"[{low}, {high}{']' if i == last else ')'}"
                for i, (low, high) in enumerate(pairwise(map(self.edge_text, self.edges)))
            )
        return (*labels, MISSING) if self.missing else labels

    def edge_text(self, edge: float) -> str:
        """Return an edge as a person reads it: a date if the attribute is one."""
        return date_of(edge).isoformat() if self.form == "date" else f"{edge:g}"

    @property
    def midpoints(self) -> np.ndarray:
        """Bin midpoints scaled from the attribute's range to [0, 1], float64 (bins,).

        Raises:
            TypeError: The attribute is not numeric.
        """
        if self.kind != "numeric":
            raise TypeError(f"Attribute {self.name!r} is categorical and has no midpoints.")
        edges = np.asarray(self.edges)
        return ((edges[1:] + edges[:-1]) / 2 - edges[0]) / (edges[-1] - edges[0])

    @property
    def declared_name(self) -> str:
        """The name of its declaration, which all labels of a column share."""
        return self.group.name if self.group else self.name

    @property
    def declared_kind(self) -> str:
        """The kind that schema.yaml states."""
        return "labels" if self.group else _KINDS.get(self.form, self.form)

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the attribute's column in a release."""
        return pa.string() if self.group else _ARROW[self.form]

    def encode(self, column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Map raw values to cells.

        Returns:
            (codes, keep): int16 (N,) cells, and bool (N,), False where the row must be dropped
            (its code is then 0 and has no meaning).
        """
        raw = self.raw_codes(column)
        absent = raw == -1
        if self.missing:
            raw[absent] = self._bins
            absent[:] = False
        outside = (raw < -1) | absent
        if self.out_of_domain == MISSING:
            raw[outside] = self._bins
        elif self.out_of_domain.startswith(FALLBACK):
            raw[outside] = self.categories.index(self.out_of_domain.removeprefix(FALLBACK))
        elif self.out_of_domain == "clamp":
            raw[raw == -2] = 0
            raw[raw == -3] = self._bins - 1
        keep = raw >= 0
        return np.where(keep, raw, 0).astype(np.int16), keep

    def raw_codes(self, column: pd.Series) -> np.ndarray:
        """Return cells before any policy, int64 (N,): -1 is absent (or not a number), -2 outside
        the domain (numeric: below it) and -3 above it."""
        if self.group:
            return self.group.raw_codes(column, self.label)
        if self.kind == "categorical":
            return self._categories_of(column)
        number = self.numbers(column)
        codes = np.searchsorted(self.edges, number, side="right") - 1
        codes = np.minimum(codes, self._bins - 1)  # the upper bound belongs to the last bin
        codes[number < self.edges[0]] = -2
        codes[number > self.edges[-1]] = -3
        codes[np.isnan(number)] = -1
        return codes

    def states_absent(self, value: Any) -> bool:
        """Return whether a raw value says that there is none: an empty one or a declared text."""
        text = category_text(value)
        return text is None or self._absent.find(text) is not None

    def values(self, column: pd.Series) -> np.ndarray:
        """Return clamped numbers (NaN if missing) or, if categorical, codes: float32 (N,)."""
        if self.kind == "categorical":
            return self.encode(column)[0].astype(np.float32)
        number = np.clip(self.numbers(column), self.edges[0], self.edges[-1])
        codes, _ = self.encode(column)
        return np.where(codes == self._bins, np.nan, number).astype(np.float32)

    def decode(self, codes: np.ndarray, rng: np.random.Generator) -> pd.Series:
        """Map cells (N,) back to values of the attribute's form; missing becomes None or NaN.

        Numbers are drawn uniformly inside their bin, of integers, dates and ages among the whole
        ones. `rng` is public randomness.
        """
        codes = np.asarray(codes, dtype=np.int64)
        if codes.size and not 0 <= codes.min() <= codes.max() < self.size:
            raise ValueError(f"A code lies outside the {self.size} cells of {self.name!r}.")
        if self.kind == "categorical":
            categories = [False, True] if self.form == "boolean" else self.categories
            table = np.array([*categories, None], dtype=object)
            return pd.Series(table[codes], name=self.name, dtype=object)
        missing = codes == self._bins
        if self.form == "number":
            bounds = np.stack([self.edges[:-1], self.edges[1:]])
        else:
            bounds = np.array(self.whole_numbers).T
        low, high = bounds[:, np.where(missing, 0, codes)]
        number = low + rng.random(len(codes)) * (high - low)
        if self.form == "number":
            # Rounding may reach the upper edge, which belongs to the next bin.
            number = np.minimum(number, np.nextafter(high, low))
            number[missing] = np.nan
            return pd.Series(number, name=self.name)
        number = np.minimum(np.floor(number), high - 1)
        whole = [None if gone else self._spell(n) for n, gone in zip(number, missing, strict=True)]
        return pd.Series(whole, name=self.name, dtype="Int64" if self.form == "integer" else object)

    @property
    def whole_numbers(self) -> list[tuple[float, float]]:
        """First whole number of each bin, and the one after its last."""
        ends = [*map(math.ceil, self.edges[:-1]), math.floor(self.edges[-1]) + 1]
        return list(pairwise(ends))

    def to_dict(self, shared: Collection[str] = ()) -> dict[str, Any]:
        """Return the declaration as schema.yaml holds it; `attribute_rules` reads it back.

        Args:
            shared: Texts that mean "absent" in the whole table, and are declared there.
        """
        declared: dict[str, Any] = {
            "kind": self.declared_kind,
            "missing": self.missing,
            "out_of_domain": self.out_of_domain,
        }
        if self.group:
            declared = self.group.to_dict()
        elif self.form == "text":
            declared["categories"] = list(self.categories)
        elif self.kind == "numeric":
            dates = self.form == "date"
            declared["edges"] = [self.edge_text(e) if dates else e for e in self.edges]
        source = self.group or self
        more: dict[str, Any] = {
            "integer": self.form == "integer",
            "suffix": self.suffix,
            "unit": self.unit,
            "format": self.date_format,
            "column": source.column if source.column != source.name else "",
            "missing_values": [text for text in source.missing_values if text not in shared],
        }
        if self.form == "boolean" and not self.group:
            more |= {
                f"{word}_values": [text for text, meant in self.aliases if meant == word]
                for word in TRUTH
            }
        else:
            more |= {"aliases": dict(source.aliases), "ignore_case": source.ignore_case}
        return declared | {key: value for key, value in more.items() if value}

    def _categories_of(self, column: pd.Series) -> np.ndarray:
        known: dict[str, int] = {}
        codes = np.empty(len(column), np.int64)
        for i, text in enumerate(map(category_text, column)):
            if text is not None and text not in known:
                place = self._spelled.find(text)
                known[text] = -2 if place is None else place
                if self._absent.find(text) is not None:
                    known[text] = -1
            codes[i] = -1 if text is None else known[text]
        return codes

    def numbers(self, column: pd.Series) -> np.ndarray:
        """Return the numbers behind the values, float64 (N,), NaN if absent or not a number."""
        plain = pd.api.types.is_numeric_dtype(column.dtype) and column.dtype.kind in "iuf"
        if plain and self.form in ("number", "integer") and not self.missing_values:
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.fromiter(map(self._number, column), np.float64, len(column))

    def _number(self, value: Any) -> float:
        if self.missing_values:
            text = category_text(value)
            if text is not None and self._absent.find(text) is not None:
                return np.nan
        if self.form == "date":
            return raw_values.day(value, self.date_format)
        if self.form == "age":
            return raw_values.age(value, self.unit, self.decimal, self.thousands)
        return raw_values.number(value, self.decimal, self.thousands, self.suffix)

    def _spell(self, number: float) -> object:
        if self.form == "date":
            return date_of(number)
        return f"{int(number):03d}{AGE_UNITS[self.unit]}" if self.form == "age" else int(number)

    @cached_property
    def _spelled(self) -> Spellings:
        return Spellings(self.categories, self.aliases, self.ignore_case)

    @cached_property
    def _absent(self) -> Spellings:
        return Spellings(self.missing_values)

    @property
    def _bins(self) -> int:
        return len(self.categories) if self.kind == "categorical" else len(self.edges) - 1
