"""Figures of nearest neighbours: precision, recall, density, coverage and near-duplicates.

Precision and recall: Kynkäänniemi et al. 2019 (k = 3). Density and coverage: Naeem et al. 2020
(k = 5). A ball around a row reaches to the k-th nearest other row of its set. The features are made
in `image.features`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagster_project.evaluation.frechet import checked

MANIFOLD = 3  # neighbours in precision and recall
COVERAGE = 5  # neighbours in density and coverage
_CLOSEST = 0.01  # quantile of the real distances that is called a near-duplicate
_SAME = 1e-12  # squared distance, as a share of the squared lengths, that rounding may leave


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The figures, and the quantities of each row that they are averages of.

    Attributes:
        precision: Share of the synthetic rows that lie in the ball of at least one real row.
        only: Share of the synthetic rows that lie in the ball of this real row only (N,).
        recalled: Whether a real row lies in the ball of at least one synthetic row, bool (N,).
        density: Number of synthetic rows in the ball of a real row, divided by `COVERAGE` and by
            the number of synthetic rows for each real one (N,). Its mean is about 1 for two samples
            of one distribution, and more where synthetic rows crowd among real ones.
        covered: Whether a synthetic row lies in the ball of a real row, bool (N,).
        apart_real: Distance of each real row to the nearest other real row, ascending (N,).
        apart_synthetic: The same among the synthetic rows, ascending (M,).
        order: The real rows in the order of `apart_real` (N,).
    """

    precision: float
    only: np.ndarray
    recalled: np.ndarray
    density: np.ndarray
    covered: np.ndarray
    apart_real: np.ndarray
    apart_synthetic: np.ndarray
    order: np.ndarray

    def figures(self) -> dict[str, float]:
        """Return precision, recall, density, coverage and near_duplicates.

        near_duplicates is the share of the synthetic rows whose nearest other synthetic row is at
        most as far as the closest 1 % of the real rows are from theirs. It is about .01 for two
        samples of one distribution and equal size; it is high if a model repeats itself.
        """
        return {n: float(d[0]) for n, d in self.draws(np.ones((1, len(self.only)))).items()}

    def draws(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the figures (B,) with each real row counted as often as `weights` (B, N) says.

        The balls keep their radii. Precision is linear in the weights to first order: a person who
        is left out takes away the synthetic rows that only their ball contains.
        """
        n = len(self.only)
        counts = weights.astype(np.float64)
        reached = counts[:, self.order].cumsum(axis=1) >= _CLOSEST * n
        closest = self.apart_real[reached.argmax(axis=1)]
        near = np.searchsorted(self.apart_synthetic, closest, side="right")
        return {
            "precision": self.precision + (counts - 1) @ self.only,
            "recall": counts @ self.recalled / n,
            "density": counts @ self.density / n,
            "coverage": counts @ self.covered / n,
            "near_duplicates": near / len(self.apart_synthetic),
        }


def neighbours(real: np.ndarray, synthetic: np.ndarray) -> Neighbours:
    """Compare two sets of features, (N, F) and (M, F); memory is quadratic.

    Near-duplicates mean something only for equally many rows: more rows have closer neighbours.

    Raises:
        ValueError: If a set has at most `COVERAGE` rows, or the widths differ.
    """
    real, synthetic = checked(real, synthetic)
    if min(len(real), len(synthetic)) <= COVERAGE:
        raise ValueError(f"Figures of neighbours need more than {COVERAGE} rows in each set.")
    own_real, own_synthetic = (np.partition(_squared(x, x), _RANKS, axis=1)[:, _RANKS]
                               for x in (real, synthetic))  # fmt: skip
    between = _squared(real, synthetic)
    within = between <= own_real[:, 1:2]
    held = (between <= own_real[:, 2:3]).sum(axis=1)
    balls = within.sum(axis=0)
    order = np.argsort(own_real[:, 0], kind="stable")
    return Neighbours(
        precision=float((balls > 0).mean()),
        only=(within & (balls == 1)).sum(axis=1) / len(synthetic),
        recalled=np.asarray((between <= own_synthetic[:, 1]).any(axis=1)),
        density=held * len(real) / (COVERAGE * len(synthetic)),
        covered=held > 0,
        apart_real=np.sqrt(own_real[order, 0]),
        apart_synthetic=np.sqrt(np.sort(own_synthetic[:, 0])),
        order=order,
    )


_RANKS = [1, MANIFOLD, COVERAGE]  # a row is its own neighbour of rank 0


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return squared distances (N, M); exactly 0 for equal rows, whatever the rounding."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    distances = squares - 2 * a @ b.T
    distances[distances <= _SAME * squares] = 0
    return distances
