"""The privacy loss distributions of events, rounded pessimistically (an upper bound).

Distributions and their composition are dp-accounting's; that of a bounded-range mechanism is made
here. What is read from them, epsilon and the trade-off curve, is in `accounting`.

References:
    Koskela, Jälkö, Honkela, "Computing tight differential privacy guarantees using FFT", 2020.
    Doroshenko et al., "Connect the dots: tighter discrete approximations of privacy loss
    distributions", 2022.
    Durfee and Rogers, "Practical differentially private top-k selection with pay-what-you-get
    composition", 2019.
    Zhu, Dong, Wang, "Optimal accounting of differential privacy via characteristic function", 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution as Distribution

from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.renyi import rdp


@lru_cache(maxsize=4)
def joint(events: tuple[Event, ...], discretization: float) -> Distribution:
    """Return the privacy loss distribution of all events together."""
    parts = (of_event(event, discretization) for event in events)
    return reduce(Distribution.compose, parts)


@lru_cache(maxsize=32)
def of_event(event: Event, discretization: float) -> Distribution:
    """Return the privacy loss distribution of one event, including its count."""
    if isinstance(event, Gaussian):
        # k Gaussians of sigma are exactly one of sigma / sqrt(k); this avoids k roundings.
        return pld.from_gaussian_mechanism(
            event.noise_multiplier / math.sqrt(event.count),
            value_discretization_interval=discretization,
        )
    if isinstance(event, PoissonSampledGaussian):
        once = pld.from_gaussian_mechanism(
            event.noise_multiplier,
            value_discretization_interval=discretization,
            sampling_prob=event.sample_rate,
        )
    elif isinstance(event, DiscreteGaussian):
        once = pld.from_discrete_gaussian_mechanism(
            event.sigma, value_discretization_interval=discretization, use_connect_dots=True
        )
    else:
        once = _bounded_range(event.epsilon, discretization)
    return once.self_compose(event.count)


def _bounded_range(bound: float, discretization: float) -> Distribution:
    """Return the pair that dominates every `bound`-bounded-range mechanism, on the grid of losses.

    All losses of such a mechanism lie in [t - bound, t] for some t in [0, bound]. The hockey-stick
    divergence is the mean of a convex function of the likelihood ratio, whose mean is 1; among
    ratios on an interval it is largest where they take only the two end points:

        H_t(e^s) = (1 - e^(t - bound)) (1 - e^(s - t)) / (1 - e^-bound).

    Which t occurs depends on the data. For each s the worst case is t = (s + bound) / 2, and

        H(e^s) = (1 - e^((s - bound) / 2))^2 / (1 - e^-bound),    -bound <= s <= bound,

    is above all H_t. It is convex in e^s, meets 1 - e^s and 0 at its ends with their slopes, and
    is its own reverse, e^s H(e^-s) + 1 - e^s. It is therefore the curve of one dominating pair,
    both for adding and for removing a person (Zhu, Dong, Wang 2022, proposition 8), and dominating
    pairs compose under adaptive choice (ibid., theorem 10). The density of the pair's loss is
    e^(s / 2) / (4 sinh(bound / 2)), which follows from the curve's second derivative.

    The mass of a grid cell is split between its ends such that both hypotheses keep it. This gives
    the chords of the curve, hence an upper bound with an error of second order in the grid
    (Doroshenko et al. 2022).
    """
    last = math.ceil(bound / discretization)
    edges = np.clip(discretization * np.arange(-last, last + 1), -bound, bound)
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    mass = 2 * np.sinh(width / 4) * np.exp((middle - bound) / 2) / -math.expm1(-bound)
    # Under both hypotheses the cell counts as its whole mass at the loss `middle`.
    excess = middle - discretization * np.arange(-last, last)
    upper = mass * np.expm1(-excess) / math.expm1(-discretization)
    masses = np.zeros(2 * last + 1)
    masses[:-1] += mass - upper
    masses[1:] += upper
    return Distribution.create_from_rounded_probability(
        dict(enumerate(masses.tolist(), start=-last)), 0.0, discretization
    )


def typical_loss(events: Sequence[Event]) -> float:
    """Return a rough size of the composed privacy loss, which a distribution would have to span."""
    tails = [
        event.epsilon if isinstance(event, BoundedRange) else 12 / sigma + 1 / sigma**2
        for event in events
        for sigma in [getattr(event, "noise_multiplier", getattr(event, "sigma", 1.0))]
    ]
    return rdp(events, order=2.0) + max(tails)
