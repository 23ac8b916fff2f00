"""Is a release's epsilon what dp-accounting says, and does Opacus' accountant agree?

Random plans are priced by the product, and again in the other library's own words. Accountants are
compared under add/remove of one person alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld

from dagster_project.privacy.accounting import epsilon, epsilon_prv
from dagster_project.privacy.auditing.finding import Finding
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)

# A power of two: multiples of it are exact, and no library rounds them.
DELTA, GRID = 1e-5, 2.0**-13
PRV_ERROR = 0.02
Price = Callable[[Sequence[Event]], float]


def our_epsilon(events: Sequence[Event]) -> float:
    """The product's figure."""
    return epsilon(events, target_delta=DELTA, discretization=GRID)


def reference_epsilon(events: Sequence[Event]) -> float:
    """dp-accounting's privacy loss distributions, composed by its own functions."""
    parts = [_reference(event) for event in events]
    composed = reduce(lambda one, other: one.compose(other), parts)
    return float(composed.get_epsilon_for_delta(DELTA))


def _reference(event: Event) -> pld.PrivacyLossDistribution:
    grid = {"value_discretization_interval": GRID}
    if isinstance(event, Gaussian):  # as its PLDAccountant composes Gaussians: exactly
        return pld.from_gaussian_mechanism(event.noise_multiplier / event.count**0.5, **grid)
    if isinstance(event, PoissonSampledGaussian):
        once = pld.from_gaussian_mechanism(
            event.noise_multiplier, sampling_prob=event.sample_rate, **grid
        )
    elif isinstance(event, DiscreteGaussian):
        once = pld.from_discrete_gaussian_mechanism(event.sigma, use_connect_dots=True, **grid)
    else:
        once = _bounded_range(event.epsilon)
    return once.self_compose(event.count)


def _bounded_range(bound: float) -> pld.PrivacyLossDistribution:
    """Connects the dots of the curve (1 - e^((s - bound) / 2))^2 / (1 - e^-bound): the change of
    its slope at a knot is the mass there. The product integrates a density instead."""
    last = round(bound / GRID)
    ratios = np.exp(GRID * np.arange(-last - 1, last + 2))
    curve = (1 - np.sqrt(ratios) * math.exp(-bound / 2)) ** 2 / -math.expm1(-bound)
    curve[0], curve[-1] = 1 - ratios[0], 0.0
    masses = ratios[1:-1] * np.diff(np.diff(curve) / np.diff(ratios))
    return pld.PrivacyLossDistribution.create_from_rounded_probability(
        dict(enumerate(masses.tolist(), start=-last)), 0.0, GRID
    )


def random_plan(rng: np.random.Generator, *, gaussian_only: bool) -> list[Event]:
    """A table model, mean pairs and training, with all noise drawn; epsilon from about .1 to 10."""
    scale = 10 ** rng.uniform(-0.4, 0.6)
    events: list[Event] = [
        Gaussian(noise_multiplier=float(scale * rng.uniform(3, 12)), count=int(rng.integers(1, 5))),
        PoissonSampledGaussian(
            noise_multiplier=float(max(0.7, scale * rng.uniform(0.8, 3))),
            sample_rate=float(10 ** rng.uniform(-2.5, -0.8)),
            count=int(rng.integers(5, 300)),
        ),
    ]
    if not gaussian_only:
        events += [
            # A whole number of grid cells, where the curve has its ends.
            BoundedRange(epsilon=int(rng.integers(40, 700)) * GRID, count=int(rng.integers(1, 25))),
            DiscreteGaussian(
                sigma=float(scale * rng.uniform(15, 60)), count=int(rng.integers(1, 25))
            ),
        ]
    return events


def audit_compositions(*, plans: int, price: Price = our_epsilon, seed: int = 0) -> list[Finding]:
    """Random plans against dp-accounting; every second one is Gaussian, and against Opacus too.

    Args:
        price: what prices a plan; an audit of this audit gives it a wrong one.
    """
    rng = np.random.default_rng(seed)
    apart, prv_apart, opinions, range_ = 0.0, 0.0, 0, [math.inf, 0.0]
    for number in range(plans):
        events = random_plan(rng, gaussian_only=number % 2 == 0)
        ours = price(events)
        range_ = [min(range_[0], ours), max(range_[1], ours)]
        apart = max(apart, abs(ours - reference_epsilon(events)))
        if number % 2 == 0 and (second := epsilon_prv(events, target_delta=DELTA)) is not None:
            opinions += 1
            prv_apart = max(prv_apart, abs(ours - second))
    span = f"{plans} random plans of epsilon {range_[0]:.2f} to {range_[1]:.2f}"
    return [
        Finding(
            name="epsilon against dp-accounting's PLD",
            measured=f"{apart:.1e} apart at most",
            expected="at most 1e-6 on one grid",
            holds=apart <= 1e-6,
            size=span,
        ),
        Finding(
            name="epsilon against Opacus' PRV",
            measured=f"{prv_apart:.4f} apart at most",
            expected=f"below {PRV_ERROR}, on at least nine in ten Gaussian plans",
            holds=prv_apart < PRV_ERROR and opinions >= 0.9 * math.ceil(plans / 2),
            size=f"{opinions} Gaussian plans",
        ),
    ]
