"""The cost of events: their joint epsilon, its trade-off curve and a second opinion.

The neighbouring relation is always to add or remove one person. Epsilons are never added up: the
events of a release are composed as privacy loss distributions (`loss_distributions`). Choosing
noise does not belong here (`calibration`), nor does spending (`ledger`).

References:
    Gopi, Lee, Wutschitz, "Numerical composition of differential privacy", 2021.
    Dong, Roth, Su, "Gaussian differential privacy", 2022.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from dagster_project.privacy.events import Event, Gaussian, PoissonSampledGaussian, to_json
from dagster_project.privacy.loss_distributions import joint, typical_loss

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
    if typical_loss(events) > _MOST_CELLS * discretization:
        return math.inf
    return float(joint(tuple(events), discretization).get_epsilon_for_delta(target_delta))


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
    losses = typical_loss(events)
    if losses > _LARGEST_LOSS:
        return math.inf
    # Rounding adds at most a quarter of the grid's square to the variance of each use's loss. On
    # this grid that stays small against the cost, and solving takes less than a second.
    discretization = losses / (1000 * math.sqrt(sum(event.count for event in events)))
    composed = joint(events, discretization)
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
    if typical_loss([event for event in events if hasattr(event, "noise_multiplier")]) > 100:
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
    if typical_loss(events) > _MOST_CELLS * discretization:
        return (1.0,) * len(false_positive_rates)
    together = joint(tuple(events), discretization)
    losses = np.linspace(0.0, float(together.get_epsilon_for_delta(1e-12)), 10_001)
    deltas = np.maximum(together.get_delta_for_epsilon(losses), 0.0)  # rounding may go below zero
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
