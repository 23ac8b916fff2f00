"""Lower and upper bounds on epsilon by an independent numerical convolution.

It shares no code and no library with `accounting`, which prices plans, and needs only distribution
functions in closed form. The privacy loss L = log dP/dQ of each event, under P, is rounded down to
a multiple of h. The sum of K such losses is below the true sum by less than K h. As
delta(epsilon) = E[max(0, 1 - exp(epsilon - L))] grows with L, the epsilon of the rounded losses is
a lower bound, and adding K h gives an upper bound. Adding and removing one person are composed
separately, and the larger epsilon counts.

References:
    Balle and Wang, "Improving the Gaussian mechanism for differential privacy", 2018, theorem 5
    (delta as an expectation over the privacy loss).
    Koskela, Jälkö, Honkela, "Computing tight differential privacy guarantees using FFT", 2020.
    Dong, Durfee, Rogers, "Optimal differential privacy composition for exponential mechanisms",
    2020 (the worst of a bounded range).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import fft
from scipy.special import ndtr

from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)

CELLS = 2**19
_FIRST_CELLS = 2**14  # enough to find the range of the losses
# Mass allowed outside the grid, relative to delta; rounding of the transform is far smaller.
_SLACK = 1e-4
_FARTHEST = 300.0

# Probabilities of a loss in [edge i, edge i + 1), and the number of compositions.
Part = tuple[np.ndarray, int]


def epsilon_bounds(
    events: Sequence[Event], *, target_delta: float, cells: int = CELLS
) -> tuple[float, float]:
    """Return a lower and an upper bound on the joint epsilon of all events.

    Args:
        events: Everything done to the same people.
        target_delta: Delta of the whole composition.
        cells: Size of the grid of losses, a power of two; more cells give closer bounds.

    Raises:
        ValueError: The losses reach beyond 300.
    """
    both = [
        _one_direction(events, removed=removed, target_delta=target_delta, cells=cells)
        for removed in (False, True)
    ]
    return max(lower for lower, _ in both), max(upper for _, upper in both)


def _one_direction(
    events: Sequence[Event], *, removed: bool, target_delta: float, cells: int
) -> tuple[float, float]:
    """Return the bounds for adding or for removing one person."""

    def parts(edges: np.ndarray) -> list[Part]:
        return [_part(event, edges, removed=removed) for event in events]

    reach = 0.25
    while True:
        edges = np.linspace(-reach, reach, _FIRST_CELLS + 1)
        if _outside(parts(edges), edges) <= _SLACK * target_delta:
            break
        reach *= 1.4
        if reach > _FARTHEST:
            raise ValueError(f"the privacy losses reach beyond {_FARTHEST:g}")
    edges = np.linspace(-reach, reach, cells + 1)
    spectrum, times = np.ones(cells // 2 + 1, dtype=np.complex128), 0
    for masses, count in parts(edges):
        spectrum *= fft.rfft(fft.ifftshift(masses)) ** count
        times += count
    masses = fft.fftshift(fft.irfft(spectrum, cells))
    rounding = times * 2 * reach / cells
    lower = _epsilon(masses, edges[:-1], target_delta * (1 + _SLACK))
    return lower, _epsilon(masses, edges[:-1], target_delta * (1 - _SLACK)) + rounding


def _part(event: Event, edges: np.ndarray, *, removed: bool) -> Part:
    """Return the masses of one event's losses between the edges."""
    if isinstance(event, Gaussian):
        # `count` of them equal one: L ~ N(mu^2 / 2, mu^2), for adding and for removing.
        mu = math.sqrt(event.count) / event.noise_multiplier
        return np.diff(ndtr(edges / mu - mu / 2)), 1
    if isinstance(event, PoissonSampledGaussian):
        sigma, rate = event.noise_multiplier, event.sample_rate
        if removed:  # P is N(0, sigma^2), and the loss falls with the output
            below = ndtr(-_output(-edges, sigma, rate) / sigma)
        else:  # P is the mixture of N(0, sigma^2) and N(1, sigma^2)
            output = _output(edges, sigma, rate)
            below = (1 - rate) * ndtr(output / sigma) + rate * ndtr((output - 1) / sigma)
        return np.diff(below), event.count
    if isinstance(event, DiscreteGaussian):
        # P is N_Z(1, sigma^2), Q is N_Z(0, sigma^2), or the mirror image.
        width = math.ceil(12 * event.sigma) + 12
        x = np.arange(-width, width + 1)
        weights = np.exp(-(x**2) / (2 * event.sigma**2))
        losses = (2 * x + 1) / (2 * event.sigma**2)
        return _counted(losses, weights / weights.sum(), edges), event.count
    return _selection(event, edges), event.count


def _selection(event: BoundedRange, edges: np.ndarray) -> np.ndarray:
    """Return the masses of the pair that dominates all mechanisms of range epsilon.

    Its loss s has the density exp(s / 2) / (4 sinh(epsilon / 2)) between -epsilon and epsilon.
    """
    ends = np.clip(edges, -event.epsilon, event.epsilon)
    return np.diff(np.exp(ends / 2)) / (2 * math.sinh(event.epsilon / 2))


def _output(losses: np.ndarray, sigma: float, rate: float) -> np.ndarray:
    """Return the z at which log(1 - q + q exp((2 z - 1) / (2 sigma^2))) is the loss.

    It is minus infinity where every loss is larger.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = sigma**2 * np.log1p(np.expm1(losses) / rate) + 0.5
    return np.where(np.expm1(losses) > -rate, z, -np.inf)


def _counted(losses: np.ndarray, probabilities: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the masses of losses (n,) with the given probabilities (n,)."""
    cells = np.searchsorted(edges, losses, side="right") - 1
    inside = (cells >= 0) & (cells < len(edges) - 1)
    return np.bincount(cells[inside], probabilities[inside], minlength=len(edges) - 1)


def _outside(parts: Sequence[Part], edges: np.ndarray) -> float:
    """Bound the probability that a loss or the sum of all lies outside the edges (Chernoff)."""
    reach = edges[-1]
    total = sum(count * max(0.0, 1 - float(masses.sum())) for masses, count in parts)
    if total >= 1:
        return total
    for sign, ends in ((1, edges[1:]), (-1, edges[:-1])):
        exponents = []
        for tilt in (25 / reach, 50 / reach, 100 / reach, 200 / reach):
            grown = np.exp(sign * tilt * ends)
            moments = [count * math.log(float(masses @ grown)) for masses, count in parts]
            exponents.append(sum(moments) - tilt * reach)
        total += math.exp(min(0.0, *exponents))
    return total


def _epsilon(masses: np.ndarray, losses: np.ndarray, target_delta: float) -> float:
    """Return the smallest epsilon >= 0 with E[max(0, 1 - exp(epsilon - L))] <= delta."""
    positive = losses >= 0
    masses, losses = masses[positive], losses[positive]
    above = np.cumsum(masses[::-1])[::-1]
    tilted = np.cumsum((masses * np.exp(-losses))[::-1])[::-1]
    deltas = above - np.exp(losses) * tilted
    if above[0] - tilted[0] <= target_delta:
        return 0.0
    # Between two losses the sums over the larger ones are constant, which gives a closed form.
    first = int(np.argmax(deltas <= target_delta))
    return float(math.log((above[first] - target_delta) / tilted[first]))
