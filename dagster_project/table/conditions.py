"""Conditions on public attributes, and drawing only the records that meet one.

A condition looks like "finding == 'effusion' and age >= 60"; its syntax is in `condition_syntax`.
Drawing under a condition is post-processing of the table model: it reads no record
and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dagster_project.table.condition_syntax import ConditionError, Part, read

__all__ = ["Condition", "ConditionError", "Drawn", "draw"]

if TYPE_CHECKING:
    from dagster_project.data.schema import Attribute, Schema
    from dagster_project.table.graphical_model import GraphicalModel

_PROBES = 200  # values drawn of each cell to see whether the condition can hold there
_BATCH, _MOST_DRAWS = 20_000, 2000  # records drawn at a time, and at most for each one wanted


@dataclass(frozen=True)
class Condition:
    """A condition on records.

    Attributes:
        text: As the user wrote it, without surrounding white space.
        schema: The public contract whose attributes it names.
        parts: The parts that must all hold.
    """

    text: str
    schema: Schema
    parts: tuple[Part, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str, schema: Schema) -> Condition:
        """Read a condition.

        Names that are not Python's, such as `kind of thing`, stand in backticks. `None` is a
        missing value, which meets no comparison except `!=` and `not in`. Dates are texts as the
        schema's format has them, ages numbers of the schema's unit, truth values True and False.

        Raises:
            ConditionError: If it is malformed, or names an attribute or category that the schema
                does not have.
        """
        text = text.strip()
        return cls(text=text, schema=schema, parts=read(text, schema))

    def holds(self, records: pd.DataFrame) -> np.ndarray:
        """Return where the condition holds: bool (n,)."""
        values = {
            attribute.name: _values(attribute, records[attribute.name])
            for attribute in self.schema.attributes
        }
        return np.logical_and.reduce([part.holds(values) for part in self.parts])

    def possible(self) -> dict[str, np.ndarray]:
        """Return, for each attribute that a part restricts by itself, the cells where it can hold.

        Whether it can is tried with values of the cell: some that are drawn, the numbers named in
        the condition, and their neighbours.
        """
        found: dict[str, np.ndarray] = {}
        for part in self.parts:
            if len(part.names) == 1:
                (name,) = part.names
                attribute = self.schema.attributes[self.schema.names.index(name)]
                cells = _possible_cells(attribute, part)
                found[name] = found.get(name, True) & cells
        return found


@dataclass(frozen=True)
class Drawn:
    """Records that meet a condition.

    Attributes:
        codes: Cells (n, d), int16.
        records: The same with values, n rows in schema order.
        share: Estimated share of such records in the table model.
    """

    codes: np.ndarray
    records: pd.DataFrame
    share: float


def draw(model: GraphicalModel, condition: Condition, n: int, rng: np.random.Generator) -> Drawn:
    """Draw `n` independent records of the model given the condition.

    The junction tree is first restricted, exactly, to the cells in which the condition can hold;
    what remains, such as part of a bin or an `or` of two attributes, is settled by rejection. Both
    together draw from the model's conditional distribution.

    Raises:
        ConditionError: If the model hardly ever draws such a record.
    """
    schema, kept, draws, found = condition.schema, [], 0, 0
    narrowed, share = model.given(condition.possible())
    while narrowed is not None and found < n and draws < _BATCH + _MOST_DRAWS * n:
        codes = narrowed.sample(_BATCH, rng)
        records = schema.decode(codes, rng)
        met = condition.holds(records)
        kept.append((codes[met], records[met]))
        draws, found = draws + _BATCH, found + int(met.sum())
    if found < n:
        share *= found / max(draws, 1)
        often = f"in 1 of {round(1 / share):,} draws" if share > 0 else "practically never"
        raise ConditionError(
            f"the table model draws a record with {condition.text} {often}, too rarely for {n} "
            "pairs: ask for less or for fewer pairs"
        )
    return Drawn(
        codes=np.concatenate([codes for codes, _ in kept])[:n],
        records=pd.concat([records for _, records in kept], ignore_index=True)[:n],
        share=share * found / draws,
    )


def _values(attribute: Attribute, column: pd.Series) -> np.ndarray:
    """Return the values of a column in the form in which they are compared."""
    return attribute.numbers(column) if attribute.kind == "numeric" else column.to_numpy(object)


def _possible_cells(attribute: Attribute, part: Part) -> np.ndarray:
    rng = np.random.default_rng(0)
    cells = np.repeat(np.arange(attribute.size), _PROBES)
    values = _values(attribute, attribute.decode(cells, rng))
    if part.numbers and attribute.kind == "numeric":
        named = np.array(sorted(part.numbers))
        if attribute.form == "number":
            beside = [np.nextafter(named, -np.inf), named, np.nextafter(named, np.inf)]
        else:
            beside = [np.floor(named) - 1, np.floor(named), np.ceil(named), np.ceil(named) + 1]
        edges, near = attribute.edges, np.concatenate(beside)
        near = near[(near >= edges[0]) & (near <= edges[-1])]
        found = np.searchsorted(edges, near, side="right") - 1
        cells = np.concatenate([cells, np.minimum(found, len(edges) - 2)])
        values = np.concatenate([values, near])
    met = part.holds({attribute.name: values})
    return np.bincount(cells[met], minlength=attribute.size) > 0
