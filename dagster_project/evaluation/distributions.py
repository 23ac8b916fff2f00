"""The distance between real and synthetic tables: total variation of their k-way marginals.

The metric is that of McKenna, Miklau & Sheldon, "Winning the NIST contest" (2021): the mean over
all sets of k attributes of half the L1 distance between the normalised marginals.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

# Marginals with more cells than this are counted only over the cells that occur.
_DENSE_CELLS = 1 << 21


def marginal_tvds(
    real_codes: np.ndarray, synthetic_codes: np.ndarray, sizes: Sequence[int], k: int
) -> dict[tuple[int, ...], float]:
    """Return the total variation distance of every k-way marginal.

    Args:
        real_codes: Cell codes (N, d).
        synthetic_codes: Cell codes (M, d).
        sizes: Number of cells of each of the d attributes.
        k: Attributes in a marginal, 1 to d.

    Returns:
        Distance in [0, 1] by ascending attribute indices.

    Raises:
        ValueError: If k is not in 1..d, or a table has no rows.
    """
    if not 1 <= k <= len(sizes):
        raise ValueError(f"A {k}-way marginal needs {k} attributes; there are {len(sizes)}.")
    if not len(real_codes) or not len(synthetic_codes):
        raise ValueError("A marginal needs at least one row.")
    real = np.ascontiguousarray(real_codes.T, dtype=np.int64)
    synthetic = np.ascontiguousarray(synthetic_codes.T, dtype=np.int64)
    distances = {}
    for subset in itertools.combinations(range(len(sizes)), k):
        shape = [sizes[i] for i in subset]
        cells = math.prod(shape)
        a = np.ravel_multi_index([real[i] for i in subset], shape)
        b = np.ravel_multi_index([synthetic[i] for i in subset], shape)
        if cells > _DENSE_CELLS:
            occurring, both = np.unique(np.concatenate([a, b]), return_inverse=True)
            a, b, cells = both[: len(a)], both[len(a) :], len(occurring)
        p = np.bincount(a, minlength=cells) / len(a)
        q = np.bincount(b, minlength=cells) / len(b)
        distances[subset] = float(np.abs(p - q).sum() / 2)
    return distances


def kway_tvd(
    real_codes: np.ndarray, synthetic_codes: np.ndarray, sizes: Sequence[int], k: int
) -> float:
    """Return the mean total variation distance over all k-way marginals, in [0, 1].

    >>> kway_tvd(np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 0]]), (2, 2), 1)
    0.0
    >>> kway_tvd(np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 0]]), (2, 2), 2)
    1.0
    """
    return float(np.mean(list(marginal_tvds(real_codes, synthetic_codes, sizes, k).values())))


def sampling_floor(
    real_codes: np.ndarray,
    sizes: Sequence[int],
    k: int,
    *,
    n_synthetic: int,
    rng: np.random.Generator,
) -> float:
    """Return the k-way TVD of `n_synthetic` rows drawn from the real table itself.

    No table model can be expected to be below it: it is due to the finite synthetic table.
    """
    rows = rng.integers(len(real_codes), size=n_synthetic)
    return kway_tvd(real_codes, real_codes[rows], sizes, k)


def pairwise_tvd(
    real_codes: np.ndarray, synthetic_codes: np.ndarray, sizes: Sequence[int]
) -> np.ndarray:
    """Return the 2-way distances, symmetric (d, d), with the 1-way distances on the diagonal."""
    d = len(sizes)
    matrix = np.zeros((d, d))
    for k in range(1, min(2, d) + 1):
        for subset, distance in marginal_tvds(real_codes, synthetic_codes, sizes, k).items():
            i, j = subset[0], subset[-1]
            matrix[i, j] = matrix[j, i] = distance
    return matrix
