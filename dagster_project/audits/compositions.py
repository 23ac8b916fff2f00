"""Audit of a release's epsilon against an independent convolution and Opacus' accountant.

The product prices random plans; the epsilon must lie between the bounds of `convolution`, which
shares no code and no library with it. Accountants are compared only under add/remove of one person.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from dagster_project.audits.convolution import epsilon_bounds
from dagster_project.audits.finding import Finding
from dagster_project.privacy.accounting import epsilon, epsilon_prv
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)

DELTA, GRID = 1e-5, 2.0**-13
# Largest relative distance of the bounds at which they are informative.
WIDTH = 0.005
PRV_ERROR = 0.02
Price = Callable[[Sequence[Event]], float]


def our_epsilon(events: Sequence[Event]) -> float:
    """Return the product's epsilon."""
    return epsilon(events, target_delta=DELTA, discretization=GRID)


def random_plan(rng: np.random.Generator, *, gaussian_only: bool) -> list[Event]:
    """Return a table model, mean pairs and training with random noise; epsilon is about .1-10."""
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
            BoundedRange(epsilon=float(rng.uniform(0.02, 0.35)), count=int(rng.integers(1, 25))),
            DiscreteGaussian(
                sigma=float(scale * rng.uniform(15, 60)), count=int(rng.integers(1, 25))
            ),
        ]
    return events


def audit_compositions(*, plans: int, price: Price = our_epsilon, seed: int = 0) -> list[Finding]:
    """Compare random plans with our convolution, and every second, Gaussian, one with Opacus.

    Args:
        price: Function that prices a plan; an audit of this audit passes a wrong one.
    """
    rng = np.random.default_rng(seed)
    prices, inside, middle, width, opinions, prv_apart = [], 0, 0.0, 0.0, 0, 0.0
    for number in range(plans):
        events = random_plan(rng, gaussian_only=number % 2 == 0)
        ours = price(events)
        lower, upper = epsilon_bounds(events, target_delta=DELTA)
        prices.append(ours)
        inside += lower <= ours <= upper
        middle = max(middle, abs(ours - (lower + upper) / 2))
        width = max(width, (upper - lower) / upper)
        if number % 2 == 0 and (second := epsilon_prv(events, target_delta=DELTA)) is not None:
            opinions += 1
            prv_apart = max(prv_apart, abs(ours - second))
    return [
        Finding(
            name="epsilon against our own convolution",
            measured=f"between its bounds in {inside} of {plans}, which are at most {width:.2%} "
            f"apart; {middle:.1e} from their middle at most",
            expected=f"between them in all, and they at most {WIDTH:.1%} apart",
            holds=inside == plans and width <= WIDTH,
            size=f"{plans} random plans of epsilon {min(prices):.2f} to {max(prices):.2f}",
        ),
        Finding(
            name="epsilon against Opacus' PRV",
            measured=f"{prv_apart:.4f} apart at most",
            expected=f"below {PRV_ERROR}, on at least nine in ten Gaussian plans",
            holds=prv_apart < PRV_ERROR and opinions >= 0.9 * math.ceil(plans / 2),
            size=f"{opinions} Gaussian plans",
        ),
    ]
