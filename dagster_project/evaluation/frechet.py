"""Distances between two sets of feature vectors: Fréchet, kernel, precision and recall.

Fréchet distance: Heusel et al. 2017 (equation 6). Kernel distance: Binkowski et al. 2018.
Precision and recall: Kynkäänniemi et al. 2019. The features are made in `image.features`.
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
    a, b = _checked(a, b)
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
    a, b = _checked(a, b)
    n, m = len(a), len(b)
    same_a = (_kernel_sum(a, a) - _kernel_trace(a)) / (n * (n - 1))
    same_b = (_kernel_sum(b, b) - _kernel_trace(b)) / (m * (m - 1))
    return same_a + same_b - 2 * _kernel_sum(a, b) / (n * m)


def precision_recall(real: np.ndarray, synthetic: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Return the shares of synthetic rows in the real manifold, and of real rows in the synthetic.

    A manifold is the union of balls around its rows, with the distance to each row's k-th nearest
    other row as radius. Low precision means images unlike any real one; low recall means missing
    kinds of images.

    Raises:
        ValueError: If a set has at most k rows, or the widths differ.
    """
    real, synthetic = _checked(real, synthetic)
    if min(len(real), len(synthetic)) <= k:
        raise ValueError(f"Precision and recall need more than {k} rows in each set.")
    return (
        _share_inside(synthetic, real, _radii(real, k)),
        _share_inside(real, synthetic, _radii(synthetic, k)),
    )


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError("Two sets of features must be matrices of the same width.")
    if min(len(a), len(b)) < 2:
        raise ValueError("A set of features needs at least two rows.")
    return a, b


def _kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
    return sum(_cubes(a[i : i + _ROWS] @ b.T / a.shape[1]) for i in range(0, len(a), _ROWS))


def _kernel_trace(a: np.ndarray) -> float:
    return _cubes(np.square(a).sum(axis=1) / a.shape[1])


def _cubes(x: np.ndarray) -> float:
    x = x + 1
    return float((x * x * x).sum())  # many times faster than x**3


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    return (squares - 2 * a @ b.T).clip(0)


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Return each row's squared distance to its k-th nearest other row (its own is rank 0)."""
    return np.concatenate(
        [
            np.partition(_squared_distances(x[i : i + _ROWS], x), k, axis=1)[:, k]
            for i in range(0, len(x), _ROWS)
        ]
    )


def _share_inside(points: np.ndarray, centres: np.ndarray, radii: np.ndarray) -> float:
    inside = [
        (_squared_distances(points[i : i + _ROWS], centres) <= radii).any(axis=1)
        for i in range(0, len(points), _ROWS)
    ]
    return float(np.concatenate(inside).mean())
