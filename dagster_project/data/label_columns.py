"""Columns whose cells list several labels, such as "effusion|mass": a yes/no for each label."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from dagster_project.data.raw_values import Spellings, category_text


@dataclass(frozen=True)
class LabelColumn:
    """The declared labels of one column.

    Attributes:
        name: Name of the declaration; the attribute of label L is called <name>_<L>.
        column: The column.
        labels: The labels, each of which becomes an attribute.
        separator: What separates labels in a cell.
        none: The text of a cell without a label. If it is empty, so is such a cell; otherwise an
            empty cell is absent.
        aliases: Further spellings of labels, each with its label.
        ignore_case: Whether upper and lower case are the same.
        missing_values: Texts that mean "absent".
        ignore_others: Whether absent cells and other labels count as no label, instead of making
            the row fall out of the domain.
    """

    name: str
    column: str
    labels: tuple[str, ...]
    separator: str = "|"
    none: str = ""
    aliases: tuple[tuple[str, str], ...] = ()
    ignore_case: bool = False
    missing_values: tuple[str, ...] = ()
    ignore_others: bool = False

    def raw_codes(self, column: pd.Series, label: int) -> np.ndarray:
        """Return for each cell whether it lists a label: int64 (N,) of 1, 0, and as in
        `Attribute.raw_codes` -1 (absent) and -2 (another label)."""
        known: dict[str | None, int] = {}
        codes = np.empty(len(column), np.int64)
        for i, text in enumerate(map(self._text, column)):
            if text not in known:
                known[text] = self._code(text, label)
            codes[i] = known[text]
        return codes

    def join(self, members: Iterable[np.ndarray]) -> list[str | None]:
        """Return cells from the codes (N,) of all labels, in order; other codes than 1 are no."""
        rows = zip(*(codes == 1 for codes in members), strict=True)
        cells = (
            self.separator.join(x for x, there in zip(self.labels, row, strict=True) if there)
            for row in rows
        )
        return [cell or self.none or None for cell in cells]

    def to_dict(self) -> dict[str, Any]:
        """Return the declaration as schema.yaml holds it."""
        return {
            "kind": "labels",
            "labels": list(self.labels),
            "separator": self.separator,
            "none": self.none,
            "out_of_domain": "ignore" if self.ignore_others else "drop",
        }

    def _text(self, value: object) -> str | None:
        if isinstance(value, list):  # of a Parquet file
            return self.separator.join(category_text(part) or "" for part in value) or self.none
        return category_text(value)

    def _code(self, text: str | None, label: int) -> int:
        if text is not None and self._absent.find(text) is not None:
            text = None
        if text is None:
            return 0 if self.ignore_others or not self.none else -1
        parts = [part.strip() for part in text.split(self.separator.strip() or " ")]
        found = [self._spelled.find(part) for part in parts if part]
        if None in found and not self.ignore_others:
            return -2
        return int(label in found)

    @cached_property
    def _absent(self) -> Spellings:
        return Spellings(self.missing_values)

    @cached_property
    def _spelled(self) -> Spellings:
        # The text for "no label" is one more word behind the labels, which no attribute asks for.
        words = (*self.labels, self.none) if self.none else self.labels
        return Spellings(words, self.aliases, self.ignore_case)
