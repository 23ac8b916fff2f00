"""Exact marginals (contingency tables) of coded records, and the distance between two of them.

The counts are private until noise is added to them. Noise and selection are in `measurements`, and
the encoding of raw columns as cell codes is in `data.schema`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_ROWS = 1 << 15  # counted at a time, so that their columns stay in the processor's cache


def attribute_pairs(attributes: int) -> list[tuple[int, int]]:
    """Return the two-way workload: all pairs i < j of attribute positions, lexicographically.

    >>> attribute_pairs(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return list(itertools.combinations(range(attributes), 2))


def count(codes: np.ndarray, sizes: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    """Count the records in each cell of the marginal over `axes`.

    A record adds one to exactly one cell, so adding or removing a person's record changes one cell
    of the result by one: the L1 and L2 sensitivity is 1.

    Args:
        codes: cell codes, integers (N, d), `0 <= codes[:, i] < sizes[i]`.
        sizes: number of cells of every attribute, (d,).
        axes: positions of the marginal's attributes, in the order of the result's axes.

    Returns:
        Counts, int64, of shape `[sizes[i] for i in axes]`.

    Raises:
        ValueError: If a code lies outside its attribute's cells.
    """
    shape = tuple(sizes[axis] for axis in axes)
    cell = np.zeros(len(codes), dtype=np.intp)
    columns = [codes[:, axis] for axis in axes]
    _require_inside(columns, shape)
    for column, size in zip(columns, shape, strict=True):
        cell *= size
        cell += column
    return np.bincount(cell, minlength=math.prod(shape)).reshape(shape)


def one_way(codes: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Return the counts of every single attribute, in schema order."""
    return [count(codes, sizes, (axis,)) for axis in range(len(sizes))]


def two_way(codes: np.ndarray, sizes: Sequence[int]) -> dict[tuple[int, int], np.ndarray]:
    """Return the counts of every pair in `attribute_pairs`, in one pass over the records.

    The memory holds some thousands of records at a time, and the counts. See `count` for the
    arguments and errors.
    """
    pairs = attribute_pairs(len(sizes))
    counts = {(i, j): np.zeros(sizes[i] * sizes[j], dtype=np.int64) for i, j in pairs}
    for start in range(0, len(codes), _ROWS):
        columns = np.ascontiguousarray(codes[start : start + _ROWS].T, dtype=np.intp)
        _require_inside(list(columns), sizes)
        for (i, j), table in counts.items():
            table += np.bincount(columns[i] * sizes[j] + columns[j], minlength=table.size)
    return {(i, j): counts[i, j].reshape(sizes[i], sizes[j]) for i, j in pairs}


def _require_inside(columns: Sequence[np.ndarray], sizes: Sequence[int]) -> None:
    for column, size in zip(columns, sizes, strict=True):
        if len(column) and (column.min() < 0 or column.max() >= size):
            raise ValueError("a cell code lies outside its attribute's domain")


class Tally(NamedTuple):
    """The exact counts of all single attributes and pairs, of everybody or of some. Private."""

    one_way: list[np.ndarray]
    two_way: dict[tuple[int, int], np.ndarray]

    def __add__(self, other: Tally) -> Tally:  # type: ignore[override]  # sums, not joined tuples
        return Tally(
            [a + b for a, b in zip(self.one_way, other.one_way, strict=True)],
            {pair: counts + other.two_way[pair] for pair, counts in self.two_way.items()},
        )


def tally(codes: np.ndarray, sizes: Sequence[int]) -> Tally:
    """Return `one_way` and `two_way` together."""
    return Tally(one_way(codes, sizes), two_way(codes, sizes))


def memory(attributes: int) -> int:
    """Return the most bytes that `two_way` holds beside its result."""
    return 8 * _ROWS * (attributes + 4)


def tvd(p: np.ndarray, q: np.ndarray) -> float:
    """Return the total variation distance of two non-negative tables of the same shape.

    This is half the L1 distance. Each table is normalised first, so counts and probabilities may
    be mixed.

    >>> tvd(np.array([1, 1]), np.array([0.5, 0.5]))
    0.0
    """
    return 0.5 * float(np.abs(p / p.sum() - q / q.sum()).sum())
