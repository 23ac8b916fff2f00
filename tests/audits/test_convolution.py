"""The convolution that audits the accountant: its bounds hold the closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from dagster_project.audits.convolution import epsilon_bounds
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)

DELTA = 1e-5


def gaussian_delta(epsilon: float, mu: float) -> float:
    """Balle and Wang 2018, theorem 8."""
    below, above = stats.norm.cdf([mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu])
    return float(below - math.exp(epsilon) * above)


def sampled_delta(epsilon: float, sigma: float, rate: float) -> float:
    """The larger of both directions: P - e^epsilon Q of the outputs that tell most."""

    def crossing(loss: float) -> float:
        """Where the log ratio of the mixture and N(0, sigma^2) is `loss`."""

        def ratio(z: float) -> float:
            return math.log(1 - rate + rate * math.exp((2 * z - 1) / (2 * sigma**2))) - loss

        return float(optimize.brentq(ratio, -50 * sigma, 50 * sigma))

    above, found = crossing(epsilon), []
    without, beside = stats.norm.sf(above, 0, sigma), stats.norm.sf(above, 1, sigma)
    found.append((1 - rate) * without + rate * beside - math.exp(epsilon) * without)
    if -epsilon > math.log(1 - rate):
        below = crossing(-epsilon)
        without, beside = stats.norm.cdf(below, 0, sigma), stats.norm.cdf(below, 1, sigma)
        found.append(without - math.exp(epsilon) * ((1 - rate) * without + rate * beside))
    return float(max(found))


def discrete_delta(epsilon: float, sigma: float) -> float:
    x = np.arange(-60 * 10, 60 * 10)
    mass = np.exp(-(x**2) / (2 * sigma**2))
    p, q = np.roll(mass, 1) / mass.sum(), mass / mass.sum()
    return float(np.maximum(0, p - math.exp(epsilon) * q).sum())


def selection_delta(epsilon: float, bound: float) -> float:
    """The worst of all that is of range `bound`, each a response with losses t and t - bound."""
    t = np.linspace(epsilon, bound, 100_001)
    likely = np.expm1(bound - t) / math.expm1(bound) * np.exp(t)
    return float((likely * -np.expm1(epsilon - t)).max())


@pytest.mark.parametrize(
    ("event", "delta"),
    [
        (Gaussian(noise_multiplier=0.8), lambda e: gaussian_delta(e, 1 / 0.8)),
        (Gaussian(noise_multiplier=9.0, count=5), lambda e: gaussian_delta(e, math.sqrt(5) / 9)),
        (
            PoissonSampledGaussian(noise_multiplier=2.0, sample_rate=1.0, count=3),
            lambda e: gaussian_delta(e, math.sqrt(3) / 2),
        ),
        (
            PoissonSampledGaussian(noise_multiplier=0.9, sample_rate=0.1),
            lambda e: sampled_delta(e, 0.9, 0.1),
        ),
        (
            PoissonSampledGaussian(noise_multiplier=2.0, sample_rate=0.6),
            lambda e: sampled_delta(e, 2.0, 0.6),
        ),
        (DiscreteGaussian(sigma=3.0), lambda e: discrete_delta(e, 3.0)),
        (BoundedRange(epsilon=0.3), lambda e: selection_delta(e, 0.3)),
    ],
)
def test_bounds_hold_the_closed_form(event: Event, delta) -> None:
    lower, upper = epsilon_bounds([event], target_delta=DELTA)
    assert 0 < lower < upper < 1.002 * lower
    assert delta(upper) < DELTA < delta(lower)


def test_gaussians_and_selections_compose_across_events() -> None:
    """Two kinds of event: the mixture over a selection's losses of one Gaussian's closed form."""
    events = [Gaussian(noise_multiplier=4.0), BoundedRange(epsilon=0.3)]
    losses = np.linspace(-0.3, 0.3, 2001)
    density = np.exp(losses / 2) / (4 * math.sinh(0.15))

    def delta(epsilon: float) -> float:
        inner = [gaussian_delta(epsilon - loss, 1 / 4) for loss in losses]
        return float(np.trapezoid(density * inner, losses))

    lower, upper = epsilon_bounds(events, target_delta=DELTA)
    assert delta(upper) < DELTA < delta(lower)


def test_more_cells_bring_the_bounds_together() -> None:
    event = PoissonSampledGaussian(noise_multiplier=1.5, sample_rate=0.02, count=200)
    wide, narrow = (
        epsilon_bounds([event], target_delta=DELTA, cells=cells) for cells in (2**16, 2**19)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert narrow[1] - narrow[0] == pytest.approx((wide[1] - wide[0]) / 8, rel=0.05)


def test_nothing_to_hide_and_far_too_much() -> None:
    assert epsilon_bounds([Gaussian(noise_multiplier=1e6)], target_delta=DELTA)[0] == 0
    with pytest.raises(ValueError, match="beyond 300"):
        epsilon_bounds([Gaussian(noise_multiplier=0.02)], target_delta=DELTA)
