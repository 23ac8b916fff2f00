"""Exact marginals (contingency tables) of coded records, and the distance between two of them.

Counts made here are private as long as nobody adds noise to them. Noise and selection do not belong
here (`measurements`), nor does turning raw columns into cell codes (`data.schema`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np


def attribute_pairs(attributes: int) -> list[tuple[int, int]]:
    """The two-way workload: every pair i < j of attribute positions, in lexicographic order.

    >>> attribute_pairs(3)
    [(0, 1), (0, 2), (1, 2)]
    """
    return list(itertools.combinations(range(attributes), 2))


def count(codes: np.ndarray, sizes: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    """How many records fall in each cell of the marginal over `axes`.

    A record adds one to exactly one cell, so adding or removing a person's record changes the
    result by one in one cell: L1 and L2 sensitivity 1.

    Args:
        codes: cell codes, integers (N, d), `0 <= codes[:, i] < sizes[i]`.
        sizes: number of cells of every attribute, (d,).
        axes: positions of the marginal's attributes, in the order of the result's axes.

    Returns:
        Counts, int64, of shape `[sizes[i] for i in axes]`.

    Raises:
        ValueError: a code lies outside its attribute's cells.
    """
    shape = tuple(sizes[axis] for axis in axes)
    cell = np.zeros(len(codes), dtype=np.intp)
    for axis, size in zip(axes, shape, strict=True):
        column = codes[:, axis]
        if len(column) and (column.min() < 0 or column.max() >= size):
            raise ValueError("a cell code lies outside its attribute's domain")
        cell *= size
        cell += column
    return np.bincount(cell, minlength=math.prod(shape)).reshape(shape)


def one_way(codes: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """The counts of every single attribute, in schema order."""
    return [count(codes, sizes, (axis,)) for axis in range(len(sizes))]


def two_way(codes: np.ndarray, sizes: Sequence[int]) -> dict[tuple[int, int], np.ndarray]:
    """The counts of every pair in `attribute_pairs`."""
    return {pair: count(codes, sizes, pair) for pair in attribute_pairs(len(sizes))}


def tvd(p: np.ndarray, q: np.ndarray) -> float:
    """Total variation distance, half the L1 distance, of two non-negative tables of one shape.

    Each is normalised first, so counts and probabilities may be mixed.

    >>> tvd(np.array([1, 1]), np.array([0.5, 0.5]))
    0.0
    """
    return 0.5 * float(np.abs(p / p.sum() - q / q.sum()).sum())
