"""The two private steps of table models: measuring a marginal and selecting a pair of attributes.

Nothing else in the table package reads private counts. Both steps keep to a public schedule: how
often they run, and with which noise, never depends on the data. Estimating a model from what was
measured does not belong here (`estimation`): it is post-processing.

References:
    Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", 2020.
    McKenna, Mullins, Sheldon, Miklau, "AIM", arXiv 2201.12677, 2022, Algorithm 2.
    McSherry, Talwar, "Mechanism design via differential privacy", 2007.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.graphical_model import GraphicalModel


class MechanismCounts(NamedTuple):
    """How often a table model runs each mechanism; public, fixed before the data are read."""

    measurements: int  # discrete Gaussian, scale sigma, sensitivity 1
    selections: int  # exponential mechanism, selection_epsilon-DP


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A noisy marginal that has been paid for: differentially private, free to use and publish.

    Attributes:
        names: the attributes, in the order of the axes of `values`.
        values: noisy counts, int64, one axis for each attribute; may be negative.
        sigma: scale of the discrete Gaussian noise on every cell.
    """

    names: tuple[str, ...]
    values: np.ndarray
    sigma: float


def measure(
    counts: np.ndarray, *, names: Sequence[str], sigma: float, generator: SecureGenerator
) -> Measurement:
    """Adds discrete Gaussian noise of scale `sigma` to the exact counts of one marginal.

    One person's record changes one cell by one, so the L2 sensitivity is exactly 1 and the
    measurement is the event `DiscreteGaussian(sigma=sigma)`.
    """
    noise = generator.discrete_gaussian(counts.shape, sigma=sigma)
    return Measurement(names=tuple(names), values=counts + noise, sigma=sigma)


def selection_scores(
    counts: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    *,
    sigma: float,
) -> np.ndarray:
    """AIM's score of each candidate r: ‖M_r(D) − M_r(p̂)‖₁ − √(2/π) σ n_r ([AIM], equation 1).

    The first term is what the model gets wrong about r, the second the error that measuring its
    n_r cells would add. Equation 1 has a weight w_r = Σ_s |r ∩ s| over the workload; when the
    workload is all pairs and so are the candidates, w_r = 2 + 2(d − 2) for each of them, and a
    common weight cancels against the sensitivity, so it is left out.

    Sensitivity 1: the expected counts come from released outputs alone, a person's record changes
    one cell of M_r(D) by one, and by the triangle inequality each score by at most 1. Scores can
    move in both directions, so the exponential mechanism needs its factor 2.

    Args:
        counts: exact counts of each candidate.
        expected: the model's probabilities times the *noisy* total, same shapes.
        sigma: scale of the noise that a measurement would get; 0 leaves out the second term.

    Returns:
        Scores, float64 (candidates,).
    """
    penalty = math.sqrt(2 / math.pi) * sigma
    return np.array(
        [
            np.abs(exact - guess).sum() - penalty * exact.size
            for exact, guess in zip(counts, expected, strict=True)
        ]
    )


def expected_counts(
    model: GraphicalModel, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], np.ndarray]:
    """What the model, with its noisy total, expects each pair of attribute positions to count."""
    names = model.names
    return {(i, j): model.total * model.marginal((names[i], names[j])) for i, j in pairs}


def select(
    candidates: Sequence[tuple[int, int]],
    *,
    exact: Mapping[tuple[int, int], np.ndarray],
    expected: Mapping[tuple[int, int], np.ndarray],
    sigma: float,
    selection_epsilon: float,
    generator: SecureGenerator,
) -> tuple[int, int]:
    """One candidate pair by the exponential mechanism, event `BoundedRange(selection_epsilon)`.

    Args:
        candidates: attribute positions; the list itself may depend on public and released facts
            only.
        exact: the pairs' exact counts.
        expected: `expected_counts` of a model fitted to released measurements.
        sigma: see `selection_scores`.
        selection_epsilon: privacy parameter of this one selection.
        generator: source of the private randomness.
    """
    scores = selection_scores(
        [exact[pair] for pair in candidates], [expected[pair] for pair in candidates], sigma=sigma
    )
    chosen = generator.exponential_mechanism(scores, epsilon=selection_epsilon, sensitivity=1.0)
    return candidates[chosen]


def noisy_total(one_way: Sequence[Measurement], *, n_public: int) -> float:
    """Estimates the number of records from noisy one-way marginals; free, they are paid for.

    Each marginal of n cells sums to the number of records plus noise of variance n σ²; the
    estimate is their inverse-variance mean, held within a factor of ten of the public rough count
    so that noise alone cannot give an absurd or a negative one.
    """
    weights = np.array([1 / (m.values.size * m.sigma**2) for m in one_way])
    sums = np.array([float(m.values.sum()) for m in one_way])
    return float(np.clip(np.average(sums, weights=weights), n_public / 10, n_public * 10))
