"""What events cost: the joint privacy loss distribution, Rényi divergence and a second opinion.

Relation: add or remove one person, everywhere. Epsilons are never added up: the events of a
release are composed as privacy loss distributions, rounded pessimistically (an upper bound), by
dp-accounting. Choosing noise does not belong here (`calibration`), nor does spending (`ledger`).

References:
    Koskela, Jälkö, Honkela, "Computing tight differential privacy guarantees using FFT", 2020.
    Doroshenko et al., "Connect the dots: tighter discrete approximations of privacy loss
    distributions", 2022.
    Mironov, Talwar, Zhang, "Rényi differential privacy of the sampled Gaussian mechanism", 2019.
    Kairouz, Oh, Viswanath, "The composition theorem for differential privacy", 2015.
    Bun and Steinke, "Concentrated differential privacy", 2016.
    Gopi, Lee, Wutschitz, "Numerical composition of differential privacy", 2021.
    Dong, Roth, Su, "Gaussian differential privacy", 2022.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution as Distribution

from dagster_project.privacy.events import (
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
    PureDP,
    to_json,
)

if TYPE_CHECKING:
    from dagster_project.privacy.plan import Mechanism


_MOST_CELLS = 2 * 10**6


def epsilon(events: Sequence[Event], *, target_delta: float, discretization: float = 1e-4) -> float:
    """Smallest epsilon such that all events together are (epsilon, target_delta)-DP, rounded up.

    Args:
        events: everything done to the same people, in any order.
        target_delta: the delta of the whole composition, in (0, 1).
        discretization: grid of privacy losses; finer is tighter and slower.

    Returns:
        The joint epsilon; 0 for no events; infinity where the losses would span more than two
        million grid cells (epsilon of about 200 on the default grid: no useful guarantee).

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
    parts = (_distribution(event, discretization) for event in events)
    return float(reduce(Distribution.compose, parts).get_epsilon_for_delta(target_delta))


@lru_cache(maxsize=32)
def _distribution(event: Event, discretization: float) -> Distribution:
    """Privacy loss distribution of one event, its count included."""
    if isinstance(event, Gaussian):
        # k Gaussians of sigma are exactly one of sigma / sqrt(k), without k roundings.
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
        once = _pure(event.epsilon, discretization)
    return once.self_compose(event.count)


def _pure(bound: float, discretization: float) -> Distribution:
    """Randomised response, which dominates every mechanism that is `bound`-DP (Kairouz, Oh,
    Viswanath 2015), its two losses moved to the grid.

    Each is split between its grid neighbours such that both hypotheses keep their mass: a spread
    of the likelihood ratio, so an upper bound, and second order in the grid (Doroshenko et al.
    2022). Rounding both up instead, as dp-accounting does, costs up to one grid cell per use.
    """
    masses: defaultdict[int, float] = defaultdict(float)
    for loss in (bound, -bound):
        mass = 1 / (1 + math.exp(-loss))
        below = math.floor(loss / discretization)
        excess = loss - below * discretization
        upper = mass * math.expm1(-excess) / math.expm1(-discretization)
        masses[below] += mass - upper
        masses[below + 1] += upper
    return Distribution.create_from_rounded_probability(masses, 0.0, discretization)


def _typical_loss(events: Sequence[Event]) -> float:
    """About how large the composed privacy loss becomes: what a distribution would have to hold."""
    tails = [
        event.epsilon if isinstance(event, PureDP) else 12 / sigma + 1 / sigma**2
        for event in events
        for sigma in [getattr(event, "noise_multiplier", getattr(event, "sigma", 1.0))]
    ]
    return rdp(events, order=2.0) + max(tails)


def rdp(events: Sequence[Event], *, order: float) -> float:
    """Rényi divergence of the given order of all events together, in nats.

    Gaussian and discrete Gaussian: order / (2 sigma^2) (Mironov 2017, proposition 7; Canonne,
    Kamath, Steinke 2020, theorem 4). Pure epsilon: min(epsilon, order epsilon^2 / 2) (Bun and
    Steinke 2016, proposition 3.3). Poisson-sampled Gaussian: Mironov, Talwar, Zhang 2019.

    Raises:
        ValueError: `order` is not finite and above 1.
    """
    if not (math.isfinite(order) and order > 1):
        raise ValueError(f"order must be finite and above 1, not {order!r}")
    return math.fsum(event.count * _rdp_once(event, order) for event in events)


def _rdp_once(event: Event, order: float) -> float:
    if isinstance(event, PureDP):
        return min(event.epsilon, order * event.epsilon**2 / 2)
    if isinstance(event, DiscreteGaussian):
        return order / (2 * event.sigma**2)
    whole = order / (2 * event.noise_multiplier**2)
    if isinstance(event, Gaussian) or event.sample_rate == 1:
        return whole
    return min(whole, _sampled_rdp(event.noise_multiplier, event.sample_rate, order))


@lru_cache(maxsize=256)
def _sampled_rdp(sigma: float, rate: float, order: float) -> float:
    """log E[(1 - q + q exp((2 z - 1) / (2 sigma^2)))^order] / (order - 1), z ~ N(0, sigma^2).

    Mironov, Talwar, Zhang 2019, section 3.3, for any real order above 1. In units of sigma the
    integrand is analytic within pi sigma of the real line, so that the trapezoid rule at this
    step is exact to rounding.
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
    """Epsilon of the Gaussian events alone by Opacus' PRV accountant (Gopi et al. 2021).

    A second opinion, not a figure to report: it adds its own error bound of 0.01, leaves out
    selections and discrete noise, and fails at some parameters.

    Returns:
        The epsilon; 0 where no event is Gaussian; None where the accountant fails.
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
        with warnings.catch_warnings():  # about its own intermediate steps
            warnings.simplefilter("ignore")
            value = float(accountant.get_epsilon(target_delta))
    except (ArithmeticError, AssertionError, RuntimeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def true_positive_rates(
    events: Sequence[Event], false_positive_rates: Sequence[float], *, discretization: float = 1e-4
) -> tuple[float, ...]:
    """The trade-off curve of all events together: how often a test of membership can be right.

    A test that wrongly accuses at most a share a of the people who are not in the data finds at
    most min over epsilon >= 0 of min(e^epsilon a + delta, 1 - e^-epsilon (1 - delta - a)) of those
    who are in it, delta being the joint hockey-stick divergence at epsilon, of both directions of
    adding and removing (Dong, Roth, Su 2022, propositions 2.5 and 2.12). The profile is
    pessimistic and the minimum is taken over a finite grid, so this is an upper bound; it cannot
    be improved where the profile is exact.

    Args:
        events: everything done to the same people, in any order.
        false_positive_rates: shares in [0, 1].
        discretization: grid of privacy losses, as in `epsilon`.

    Returns:
        The largest possible true-positive rate for each false-positive rate; 1 where `epsilon`
        would be infinite.

    Raises:
        ValueError: a rate is out of range.

    >>> true_positive_rates([Gaussian(noise_multiplier=5.0)], [0.01])[0]  # doctest: +ELLIPSIS
    0.016...
    """
    if not all(0 <= rate <= 1 for rate in false_positive_rates):
        raise ValueError("false-positive rates must lie in [0, 1]")
    if not events:
        return tuple(float(rate) for rate in false_positive_rates)
    if _typical_loss(events) > _MOST_CELLS * discretization:
        return (1.0,) * len(false_positive_rates)
    joint = reduce(Distribution.compose, (_distribution(e, discretization) for e in events))
    losses = np.linspace(0.0, float(joint.get_epsilon_for_delta(1e-12)), 10_001)
    deltas = np.maximum(joint.get_delta_for_epsilon(losses), 0.0)  # against rounding below zero
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
    mechanisms: Sequence[Mechanism], *, target_delta: float, discretization: float = 1e-4
) -> list[dict[str, Any]]:
    """What each mechanism would cost alone, and all together, for a reader's table.

    Returns:
        Rows with `name`, `stage`, `event` (JSON) and `epsilon` at `target_delta`; the last row,
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
