"""The cost of events: the joint privacy loss distribution, Rényi divergence and a second opinion.

The neighbouring relation is always to add or remove one person. Epsilons are never added up: the
events of a release are composed as privacy loss distributions, rounded pessimistically (an upper
bound), by dp-accounting. Choosing noise does not belong here (`calibration`), nor does spending
(`ledger`).

References:
    Koskela, Jälkö, Honkela, "Computing tight differential privacy guarantees using FFT", 2020.
    Doroshenko et al., "Connect the dots: tighter discrete approximations of privacy loss
    distributions", 2022.
    Mironov, Talwar, Zhang, "Rényi differential privacy of the sampled Gaussian mechanism", 2019.
    Durfee and Rogers, "Practical differentially private top-k selection with pay-what-you-get
    composition", 2019.
    Zhu, Dong, Wang, "Optimal accounting of differential privacy via characteristic function", 2022.
    Cesar and Rogers, "Bounding, concentrating, and truncating", 2021.
    Gopi, Lee, Wutschitz, "Numerical composition of differential privacy", 2021.
    Dong, Roth, Su, "Gaussian differential privacy", 2022.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution as Distribution
from scipy import special

from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
    to_json,
)

if TYPE_CHECKING:
    from dagster_project.privacy.plan import PlannedMechanism


_MOST_CELLS = 2 * 10**6
_LARGEST_LOSS = 200.0
_KNOTS = 2**12
_NEGLIGIBLE = 1e-13  # a delta larger than the rounding error of a composed distribution


def epsilon(events: Sequence[Event], *, target_delta: float, discretization: float = 1e-4) -> float:
    """Return the smallest epsilon, rounded up, for which all events are (epsilon, target_delta)-DP.

    Args:
        events: Everything done to the same people, in any order.
        target_delta: The delta of the whole composition, in (0, 1).
        discretization: Grid of privacy losses; finer is tighter and slower.

    Returns:
        The joint epsilon; 0 for no events; infinity if the losses would span more than two million
        grid cells (an epsilon of about 200 on the default grid: no useful guarantee).

    Raises:
        ValueError: `target_delta` or `discretization` is out of range.

    >>> round(epsilon([Gaussian(noise_multiplier=5.0)], target_delta=1e-5), 3)
    0.726
    """
    _require_delta(target_delta)
    if not 1e-6 <= discretization <= 0.1:
        raise ValueError(f"discretization must lie in [1e-6, 0.1], not {discretization!r}")
    if not events:
        return 0.0
    if _typical_loss(events) > _MOST_CELLS * discretization:
        return math.inf
    return float(_joint(tuple(events), discretization).get_epsilon_for_delta(target_delta))


@lru_cache(maxsize=4)
def _joint(events: tuple[Event, ...], discretization: float) -> Distribution:
    """Return the privacy loss distribution of all events together."""
    parts = (_distribution(event, discretization) for event in events)
    return reduce(Distribution.compose, parts)


@lru_cache(maxsize=32)
def _distribution(event: Event, discretization: float) -> Distribution:
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


def _typical_loss(events: Sequence[Event]) -> float:
    """Return a rough size of the composed privacy loss, which a distribution would have to span."""
    tails = [
        event.epsilon if isinstance(event, BoundedRange) else 12 / sigma + 1 / sigma**2
        for event in events
        for sigma in [getattr(event, "noise_multiplier", getattr(event, "sigma", 1.0))]
    ]
    return rdp(events, order=2.0) + max(tails)


def gdp_cost(events: Sequence[Event], *, leak: float) -> float:
    """Return the smallest b such that a leaky Gaussian of parameter mu^2 = b dominates all events.

    At every epsilon, both for adding and for removing a person, delta is at most
    (1 - l) delta_sqrt(b)(epsilon) + l, where delta_mu is that of the Gaussian mechanism and
    1 - l = exp(-leak b). `ledger.gdp_filter` says what such costs are for. Gaussians cost exactly
    count / sigma^2; the cost of other events follows from their privacy loss distribution, rounded
    up.

    Returns:
        The cost; 0 for no events; infinity if `epsilon` is infinite.
    """
    gaussians = [event for event in events if isinstance(event, Gaussian)]
    if len(gaussians) == len(events):
        return math.fsum(event.count / event.noise_multiplier**2 for event in gaussians)
    return _gdp_cost(tuple(events), leak)


@lru_cache(maxsize=64)
def _gdp_cost(events: tuple[Event, ...], leak: float) -> float:
    losses = _typical_loss(events)
    if losses > _LARGEST_LOSS:
        return math.inf
    # Rounding adds at most a quarter of the grid's square to the variance of each use's loss. On
    # this grid that stays small against the cost, and solving takes less than a second.
    discretization = losses / (1000 * math.sqrt(sum(event.count for event in events)))
    composed = _joint(events, discretization)
    largest = composed.get_epsilon_for_delta(_NEGLIGIBLE)
    if largest > _LARGEST_LOSS:
        return math.inf
    # Between its knots the curve of a loss distribution is a chord in e^epsilon, and the chord over
    # some of its knots lies above it: what holds for the chords of a few thousand knots holds for
    # the curve.
    stride = max(1, math.ceil(largest / discretization / _KNOTS)) * discretization
    knots = stride * np.arange(math.ceil(largest / stride) + 1)
    deltas = np.asarray(composed.get_delta_for_epsilon(knots.tolist())) + _NEGLIGIBLE

    def dominates(b: float) -> bool:
        mu, kept = math.sqrt(b), math.exp(-leak * b)
        # Mass of both hypotheses above each loss. The Gaussian's curve is convex in e^epsilon with
        # slope -below, and a chord rises above it by at most a quarter of the change.
        above, below = (special.ndtr(sign * mu / 2 - knots / mu) for sign in (1, -1))
        rise = np.diff(np.exp(knots)) * -np.diff(below) / 4
        rise = np.maximum(np.append(rise, 0.0), np.append(0.0, rise))
        curve = above - np.exp(knots) * below - rise
        curve[-1] = 0.0  # from here on the leak has to cover everything
        leaked = -math.expm1(-leak * b)
        # Beyond the last two knots only the leak is relied on.
        return bool(np.all(deltas <= kept * curve + leaked) and np.all(deltas[-2:] <= leaked))

    low, high = 0.0, 1.0
    while not dominates(high):
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if dominates(middle) else (middle, high)
    return high


def rdp(events: Sequence[Event], *, order: float) -> float:
    """Return the Rényi divergence of the given order of all events together, in nats.

    Gaussian and discrete Gaussian: order / (2 sigma^2) (Mironov 2017, proposition 7; Canonne,
    Kamath, Steinke 2020, theorem 4). Bounded range: min(epsilon, order epsilon^2 / 8) (Cesar and
    Rogers 2021). Poisson-sampled Gaussian: Mironov, Talwar, Zhang 2019.

    Raises:
        ValueError: `order` is not finite and above 1.
    """
    if not (math.isfinite(order) and order > 1):
        raise ValueError(f"order must be finite and above 1, not {order!r}")
    return math.fsum(event.count * _rdp_once(event, order) for event in events)


def _rdp_once(event: Event, order: float) -> float:
    if isinstance(event, BoundedRange):
        return min(event.epsilon, order * event.epsilon**2 / 8)
    if isinstance(event, DiscreteGaussian):
        return order / (2 * event.sigma**2)
    whole = order / (2 * event.noise_multiplier**2)
    if isinstance(event, Gaussian) or event.sample_rate == 1:
        return whole
    return min(whole, _sampled_rdp(event.noise_multiplier, event.sample_rate, order))


@lru_cache(maxsize=256)
def _sampled_rdp(sigma: float, rate: float, order: float) -> float:
    """Return the Rényi divergence of one Poisson-sampled Gaussian.

    It is log E[(1 - q + q exp((2 z - 1) / (2 sigma^2)))^order] / (order - 1), z ~ N(0, sigma^2)
    (Mironov, Talwar, Zhang 2019, section 3.3), for any real order above 1. In units of sigma the
    integrand is analytic within pi sigma of the real line, so the trapezoid rule with this step is
    exact up to rounding.
    """
    step = min(0.05, sigma / 8)
    low, high = -40.0, order / sigma + 40.0
    if (high - low) / step > 10**7:
        return math.inf
    x = np.arange(low, high, step)
    loss = x / sigma - 1 / (2 * sigma**2)
    mixture = np.logaddexp(math.log1p(-rate), math.log(rate) + loss)
    exponent = order * mixture - x**2 / 2
    top = exponent.max()
    total = top + math.log(np.exp(exponent - top).sum() * step / math.sqrt(2 * math.pi))
    return max(total, 0.0) / (order - 1)


def epsilon_prv(events: Sequence[Event], *, target_delta: float) -> float | None:
    """Return the epsilon of only the Gaussian events, by Opacus' PRV accountant (Gopi et al. 2021).

    This is a second opinion and not to be reported: it adds its own error bound of 0.01, leaves out
    selections and discrete noise, and fails at some parameters.

    Returns:
        The epsilon; 0 if no event is Gaussian; None if the accountant fails.
    """
    _require_delta(target_delta)
    history = [
        (event.noise_multiplier, getattr(event, "sample_rate", 1.0), event.count)
        for event in events
        if isinstance(event, Gaussian | PoissonSampledGaussian)
    ]
    if not history:
        return 0.0
    if _typical_loss([event for event in events if hasattr(event, "noise_multiplier")]) > 100:
        return None
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = history
    try:
        with warnings.catch_warnings():  # Opacus warns about its own intermediate steps
            warnings.simplefilter("ignore")
            value = float(accountant.get_epsilon(target_delta))
    except (ArithmeticError, AssertionError, RuntimeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def true_positive_rates(
    events: Sequence[Event], false_positive_rates: Sequence[float], *, discretization: float = 1e-4
) -> tuple[float, ...]:
    """Return the trade-off curve of all events together: the best possible test of membership.

    A test that wrongly accuses at most a fraction a of the people who are not in the data detects
    at most min over epsilon >= 0 of min(e^epsilon a + delta, 1 - e^-epsilon (1 - delta - a)) of
    those who are in it, where delta is the joint hockey-stick divergence at epsilon, the larger of
    the directions of adding and removing (Dong, Roth, Su 2022, propositions 2.5 and 2.12). The
    profile is pessimistic and the minimum is taken over a finite grid, so this is an upper bound.
    It cannot be improved where the profile is exact.

    Args:
        events: Everything done to the same people, in any order.
        false_positive_rates: Fractions in [0, 1].
        discretization: Grid of privacy losses, as in `epsilon`.

    Returns:
        The largest possible true-positive rate for each false-positive rate; 1 if `epsilon` would
        be infinite.

    Raises:
        ValueError: A rate is out of range.

    >>> true_positive_rates([Gaussian(noise_multiplier=5.0)], [0.01])[0]  # doctest: +ELLIPSIS
    0.016...
    """
    if not all(0 <= rate <= 1 for rate in false_positive_rates):
        raise ValueError("false-positive rates must lie in [0, 1]")
    if not events:
        return tuple(float(rate) for rate in false_positive_rates)
    if _typical_loss(events) > _MOST_CELLS * discretization:
        return (1.0,) * len(false_positive_rates)
    joint = _joint(tuple(events), discretization)
    losses = np.linspace(0.0, float(joint.get_epsilon_for_delta(1e-12)), 10_001)
    deltas = np.maximum(joint.get_delta_for_epsilon(losses), 0.0)  # rounding may go below zero
    return tuple(
        float(
            min(
                1.0,
                (np.exp(losses) * rate + deltas).min(),
                (1 - np.exp(-losses) * (1 - deltas - rate)).min(),
            )
        )
        for rate in false_positive_rates
    )


def cost_table(
    mechanisms: Sequence[PlannedMechanism], *, target_delta: float, discretization: float = 1e-4
) -> list[dict[str, Any]]:
    """Return the cost of each mechanism by itself, and of all together, as rows of a table.

    Returns:
        Rows with `name`, `stage`, `event` (JSON) and `epsilon` at `target_delta`. The last row,
        "all", holds the joint epsilon, which is less than the sum of the rows above it.
    """
    settings = {"target_delta": target_delta, "discretization": discretization}
    rows: list[dict[str, Any]] = [
        {
            "name": item.name,
            "stage": item.stage,
            "event": to_json(item.event),
            "epsilon": epsilon([item.event], **settings),
        }
        for item in mechanisms
    ]
    joint = epsilon([item.event for item in mechanisms], **settings)
    return [*rows, {"name": "all", "stage": None, "event": None, "epsilon": joint}]


def _require_delta(target_delta: float) -> None:
    if not 0 < target_delta < 1:
        raise ValueError(f"target_delta must lie in (0, 1), not {target_delta!r}")
