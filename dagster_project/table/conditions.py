"""Conditions on public attributes, and drawing only the records that meet one.

A condition such as "finding == 'effusion' and age >= 60" is parsed by Python's own grammar, of
which only comparisons of an attribute with constants, `and`, `or` and `not` are allowed; nothing is
ever executed. Drawing under a condition is post-processing of the table model: it reads no record
and costs nothing.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dagster_project.data.raw_values import category_text

if TYPE_CHECKING:
    from dagster_project.data.schema import Attribute, Schema
    from dagster_project.table.graphical_model import GraphicalModel

_LONGEST = 2000  # characters
_PROBES = 200  # values drawn of each cell to see whether the condition can hold there
_BATCH, _MOST_DRAWS = 20_000, 2000  # records drawn at a time, and at most for each one wanted
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MIRRORED = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}


class ConditionError(ValueError):
    """The condition cannot be used; one sentence says why."""


Values = Mapping[str, np.ndarray]  # by attribute: float64 if numeric, NaN if missing; else objects
Holds = Callable[[Values], np.ndarray]


@dataclass(frozen=True)
class _Part:
    """A part of a condition: what it needs and how it is evaluated."""

    names: frozenset[str]
    numbers: frozenset[float]
    holds: Holds


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
    parts: tuple[_Part, ...] = field(repr=False)

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
        quoted: dict[str, str] = {}

        def stand_in(match: re.Match[str]) -> str:
            name = f"_quoted_{len(quoted)}"
            quoted[name] = match[1]
            return name

        if not text or len(text) > _LONGEST:
            raise ConditionError(f"a condition has 1 to {_LONGEST} characters")
        try:
            tree = ast.parse(re.sub(r"`([^`]*)`", stand_in, text), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise ConditionError(
                f"the condition {text!r} cannot be read: write it like "
                "\"finding == 'effusion' and age >= 60\""
            ) from None
        parts = [tree]
        if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
            parts = tree.values
        reader = _Reader(schema, quoted)
        return cls(text=text, schema=schema, parts=tuple(reader.read(part) for part in parts))

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


def _possible_cells(attribute: Attribute, part: _Part) -> np.ndarray:
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


class _Reader:
    """A reader of syntax trees, which knows the attributes."""

    def __init__(self, schema: Schema, quoted: Mapping[str, str]) -> None:
        self._attributes = {attribute.name: attribute for attribute in schema.attributes}
        self._quoted = quoted

    def read(self, node: ast.expr) -> _Part:
        if isinstance(node, ast.BoolOp):
            parts = [self.read(value) for value in node.values]
            both = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return _joined(
                parts, lambda values: both.reduce([part.holds(values) for part in parts])
            )
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            part = self.read(node.operand)
            return _joined([part], lambda values: ~part.holds(values))
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            steps = [
                self._comparison(left, operation, right)
                for left, operation, right in zip(operands, node.ops, operands[1:], strict=False)
            ]
            return _joined(
                steps,
                lambda values: np.logical_and.reduce([step.holds(values) for step in steps]),
            )
        raise ConditionError(
            f"a condition compares attributes with values, joined by and, or, not: "
            f"{self._text(node)} is neither"
        )

    def _comparison(self, left: ast.expr, operation: ast.cmpop, right: ast.expr) -> _Part:
        if not isinstance(left, ast.Name) and isinstance(right, ast.Name):
            left, right = right, left
            mirrored = _MIRRORED.get(type(operation))  # 60 <= age is age >= 60
            operation = mirrored() if mirrored else operation
            if isinstance(operation, ast.In | ast.NotIn):
                raise ConditionError("`in` has the attribute on its left and a list on its right")
        attribute = self._attribute(left)
        name, value = attribute.name, self._constant(right)
        if isinstance(operation, ast.In | ast.NotIn):
            if not isinstance(value, tuple):
                raise ConditionError(f"`in` needs a list of values: {name} in ['a', 'b']")
            wanted: Sequence[Any] = value
        elif isinstance(value, tuple):
            raise ConditionError(f"{name} is compared with a list: write {name} in [...]")
        else:
            wanted = (value,)
        wanted = [self._value(attribute, item) for item in wanted]
        numeric = attribute.kind == "numeric"
        numbers = frozenset(item for item in wanted if numeric and item is not None)
        compare = _COMPARISONS.get(type(operation))
        if compare is not None:
            if not numeric or wanted[0] is None:
                raise ConditionError(f"{name} has no order: compare it with ==, !=, in or not in")
            bound = wanted[0]
            return _Part(frozenset({name}), numbers, lambda values: compare(values[name], bound))
        negated = isinstance(operation, ast.NotEq | ast.NotIn | ast.IsNot)
        known = [item for item in wanted if item is not None]

        def equal(values: Values) -> np.ndarray:
            column = values[name]
            met = np.isin(column, np.array(known, dtype=column.dtype))
            if None in wanted:
                met |= pd.isna(column)
            return met ^ negated

        return _Part(frozenset({name}), numbers, equal)

    def _attribute(self, node: ast.expr) -> Attribute:
        if not isinstance(node, ast.Name):
            raise ConditionError(f"{self._text(node)} is not an attribute")
        name = self._quoted.get(node.id, node.id)
        if name not in self._attributes:
            known = ", ".join(self._attributes)
            raise ConditionError(f"there is no attribute {name!r}: the attributes are {known}")
        return self._attributes[name]

    def _constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.List | ast.Tuple):
            return tuple(self._constant(item) for item in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self._constant(node.operand)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.Constant) and isinstance(
            node.value, str | int | float | bool | None
        ):
            return node.value
        raise ConditionError(
            f"{self._text(node)} is not a value: write texts in quotes, numbers without"
        )

    def _value(self, attribute: Attribute, value: Any) -> Any:
        """Return the value as the attribute's column holds it."""
        if value is None:
            return None
        if attribute.kind == "numeric":
            return self._number(attribute, value)
        if attribute.form == "boolean":
            truth = str(value).lower()
            if truth not in ("true", "false"):
                raise ConditionError(f"{attribute.name} is True or False, not {value!r}")
            return truth == "true"
        text = category_text(value)
        if text not in attribute.categories:
            known = ", ".join(attribute.categories[:20])
            raise ConditionError(
                f"{attribute.name} has no category {value!r}: its categories are {known}"
            )
        return text

    def _number(self, attribute: Attribute, value: Any) -> float:
        """Return the number behind a value: of a date or an age also of its text."""
        spelled = isinstance(value, str) and attribute.form in ("date", "age")
        if spelled or (isinstance(value, int | float) and not isinstance(value, bool)):
            number = float(attribute.numbers(pd.Series([value], dtype=object))[0])
            if np.isfinite(number):
                return number
        wanted = "a date, written as text" if attribute.form == "date" else "a number"
        raise ConditionError(f"{attribute.name} is {wanted}, and {value!r} is none")

    def _text(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        for name, original in self._quoted.items():
            text = text.replace(name, f"`{original}`")
        return text


def _joined(parts: Sequence[_Part], holds: Holds) -> _Part:
    return _Part(
        frozenset().union(*(part.names for part in parts)),
        frozenset().union(*(part.numbers for part in parts)),
        holds,
    )
