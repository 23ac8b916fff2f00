"""Distances between two sets of feature vectors: Fréchet and kernel.

Fréchet distance: Heusel et al. 2017 (equation 6). Kernel distance: Binkowski et al. 2018. The
features are made in `image.features`; figures of nearest neighbours are in `neighbours`.
"""

from __future__ import annotations

import numpy as np

_ROWS = 1000  # rows of a kernel or distance matrix held at once


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance of the Gaussians fitted to two sets of features, float64.

    ‖m_a - m_b‖² + tr(S_a + S_b - 2 (S_a S_b)^½). The trace of the root is computed as the sum of
    the roots of the eigenvalues of S_a^½ S_b S_a^½, which is symmetric, so that singular
    covariances (fewer rows than features) need no offset and no result is complex.

    Args:
        a: Features (N, F), N >= 2.
        b: Features (M, F), M >= 2.

    Raises:
        ValueError: If the widths differ or a set has fewer than two rows.
    """
    a, b = checked(a, b)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ covariance_b @ root
    overlap = np.sqrt(np.linalg.eigvalsh((product + product.T) / 2).clip(0)).sum()
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(max(0.0, shift + np.trace(covariance_a) + np.trace(covariance_b) - 2 * overlap))


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Return the kernel distance: the unbiased squared MMD with the kernel (x·y / F + 1)³.

    It uses all pairs of rows instead of subsets, so it is deterministic. It is about 0 for two
    samples of the same distribution (and may be slightly negative); unlike the Fréchet distance, it
    is not biased by the number of rows.
    """
    return float(kid_draws(a, b, np.ones((1, len(a))))[0])


def kid_draws(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the kernel distance (B,) with each row of `a` counted as `weights` (B, N) says.

    A pair of copies of one row is left out, as the pair of a row with itself is in `kid`.
    """
    a, b = checked(a, b)
    n, m, counts = len(a), len(b), weights.astype(np.float64)
    total, square, cross = 0.0, 0.0, 0.0
    for i in range(0, n, _ROWS):
        block = counts[:, i : i + _ROWS]
        total += ((block @ _kernel(a[i : i + _ROWS] @ a.T / a.shape[1])) * counts).sum(axis=1)
        cross += block @ _kernel(a[i : i + _ROWS] @ b.T / a.shape[1]).sum(axis=1)
    for i in range(0, m, _ROWS):
        square += _kernel(b[i : i + _ROWS] @ b.T / b.shape[1]).sum()
    own_a, own_b = (_kernel(np.square(x).sum(axis=1) / x.shape[1]) for x in (a, b))
    twice = np.square(counts)
    same_a = (total - twice @ own_a) / (n * n - twice.sum(axis=1))
    same_b = (square - own_b.sum()) / (m * (m - 1))
    return same_a + same_b - 2 * cross / (n * m)


def checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of features as float64, or raise ValueError if they cannot be compared."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError("Two sets of features must be matrices of the same width.")
    if min(len(a), len(b)) < 2:
        raise ValueError("A set of features needs at least two rows.")
    return a, b


def _kernel(x: np.ndarray) -> np.ndarray:
    x = x + 1
    return x * x * x  # many times faster than x**3
