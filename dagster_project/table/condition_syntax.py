"""The syntax of conditions: Python's own, of which only comparisons, `and`, `or`, `not` are read.

Nothing is ever executed. What a condition is for is in `conditions`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dagster_project.data.raw_values import category_text, day
from dagster_project.data.table_format import clean_name

if TYPE_CHECKING:
    from dagster_project.data.schema import Attribute, Schema

_LONGEST = 2000  # characters
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
class Part:
    """A part of a condition: what it needs and how it is evaluated."""

    names: frozenset[str]
    numbers: frozenset[float]
    holds: Holds


def read(text: str, schema: Schema) -> tuple[Part, ...]:
    """Return the parts of a condition that must all hold.

    Raises:
        ConditionError: If it is malformed, or names an attribute or category that the schema does
            not have.
    """
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
    return tuple(reader.read(part) for part in parts)


class _Reader:
    """A reader of syntax trees, which knows the attributes."""

    def __init__(self, schema: Schema, quoted: Mapping[str, str]) -> None:
        self._schema = schema
        self._attributes = {attribute.name: attribute for attribute in schema.attributes}
        self._quoted = quoted

    def read(self, node: ast.expr) -> Part:
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

    def _comparison(self, left: ast.expr, operation: ast.cmpop, right: ast.expr) -> Part:
        if not isinstance(left, ast.Name) and isinstance(right, ast.Name):
            left, right = right, left
            mirrored = _MIRRORED.get(type(operation))  # 60 <= age is age >= 60
            operation = mirrored() if mirrored else operation
            if isinstance(operation, ast.In | ast.NotIn):
                raise ConditionError("`in` has the attribute on its left and a list on its right")
        attribute = self._attribute(left, right)
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
            return Part(frozenset({name}), numbers, lambda values: compare(values[name], bound))
        negated = isinstance(operation, ast.NotEq | ast.NotIn | ast.IsNot)
        known = [item for item in wanted if item is not None]

        def equal(values: Values) -> np.ndarray:
            column = values[name]
            met = np.isin(column, np.array(known, dtype=column.dtype))
            if None in wanted:
                met |= pd.isna(column)
            return met ^ negated

        return Part(frozenset({name}), numbers, equal)

    def _attribute(self, node: ast.expr, values: ast.expr) -> Attribute:
        if not isinstance(node, ast.Name):
            raise ConditionError(f"{self._text(node)} is not an attribute")
        name = self._quoted.get(node.id, node.id)
        if name not in self._attributes:
            raise ConditionError(_unknown(name, self._schema, values))
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
        """Return the number behind a value: of a date or an age also of its text.

        A date is written as in the release, which is ISO form, or as in the table.
        """
        spelled = isinstance(value, str) and attribute.form in ("date", "age")
        if attribute.form == "date" and np.isfinite(day(value)):
            return day(value)
        if spelled or (isinstance(value, int | float) and not isinstance(value, bool)):
            number = float(attribute.numbers(pd.Series([value], dtype=object))[0])
            if np.isfinite(number):
                return number
        wanted = "a date such as '2020-01-31'" if attribute.form == "date" else "a number"
        raise ConditionError(f"{attribute.name} is {wanted}, and {value!r} is none")

    def _text(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        for name, original in self._quoted.items():
            text = text.replace(name, f"`{original}`")
        return text


def _unknown(name: str, schema: Schema, values: ast.expr) -> str:
    """Say that there is no such attribute, and what is probably meant.

    Args:
        name: The name.
        schema: The public contract.
        values: What the name is compared with.
    """
    made = [a for a in schema.attributes if clean_name(name) in (a.column, a.declared_name)]
    if made and made[0].group:
        listed = [node.value for node in ast.walk(values) if isinstance(node, ast.Constant)]
        column = pd.Series(listed, dtype=object)
        meant = [a for a in made if (a.raw_codes(column) == 1).any()] or made[:1]
        return (
            f"{name} lists labels, and each label is an attribute: write "
            f"{' or '.join(f'{_written(a.name)} == True' for a in meant)} "
            f"(the attributes of {name} are {', '.join(a.name for a in made)})"
        )
    if made:
        return f"{name} is the column of an attribute: write {_written(made[0].name)}"
    names = [a.name for a in schema.attributes]
    if clean_name(name) in schema.used:
        return f"{name} is no attribute of synthetic pairs: the attributes are {', '.join(names)}"
    spelled = {
        text.casefold(): text for a in schema.attributes for text in (a.declared_name, a.name)
    }
    near = get_close_matches(name.casefold(), spelled, n=1)
    ask = f", did you mean {_written(spelled[near[0]])}?" if near else ":"
    return f"there is no attribute {name!r}{ask} the attributes are {', '.join(names)}"


def _written(name: str) -> str:
    """Return a name as a condition writes it."""
    return name if name.isidentifier() and not iskeyword(name) else f"`{name}`"


def _joined(parts: Sequence[Part], holds: Holds) -> Part:
    return Part(
        frozenset().union(*(part.names for part in parts)),
        frozenset().union(*(part.numbers for part in parts)),
        holds,
    )
