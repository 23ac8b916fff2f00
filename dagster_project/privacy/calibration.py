"""The noise that a target epsilon needs: one scale `mu` for all stages, solved on their joint cost.

`mu` is the Gaussian-DP parameter (Dong, Roth, Su, "Gaussian differential privacy", 2022) that a
plan spends, and each stage has a share of `mu`^2. The rules below translate shares to noise. For
sampled and selection events the rules are approximate, which only affects the division between
stages: the epsilon that `calibrate` meets is always that of the joint privacy loss distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dagster_project.privacy.accounting import epsilon
from dagster_project.privacy.events import Event, PoissonSampledGaussian
from dagster_project.privacy.renyi import rdp

_COARSE = 1e-3
_COARSE_TOLERANCE = 0.01
_TOLERANCE = 0.005  # at most this fraction of the target epsilon is left unused


def calibrate(
    events_of: Callable[[float], Sequence[Event]],
    *,
    target_epsilon: float,
    target_delta: float,
    discretization: float = 1e-4,
) -> float:
    """Return the scale `mu` at which the events cost just under the target.

    A coarse grid finds the neighbourhood and the fine grid decides: the result's epsilon on
    `discretization` is never above `target_epsilon` and at most 0.5 % below it (or as close as the
    grid's steps allow).

    Args:
        events_of: Events at a scale; a larger scale must mean less noise.
        target_epsilon: Joint epsilon to meet, add/remove one person.
        target_delta: Delta of that guarantee.
        discretization: Grid of the privacy loss distribution.

    Raises:
        ValueError: A target is out of range, or no scale between 1e-4 and 1e4 meets it.
    """
    require_target(target_epsilon, target_delta)

    def cost_on(grid: float) -> Callable[[float], float]:
        return lambda mu: epsilon(events_of(mu), target_delta=target_delta, discretization=grid)

    # mu^2 / 2 + mu sqrt(2 log(1 / delta)) = epsilon: the classical bound for one Gaussian.
    tail = math.sqrt(2 * math.log(1 / target_delta))
    start = math.sqrt(tail * tail + 2 * target_epsilon) - tail
    if discretization < _COARSE:
        start = _solve(cost_on(_COARSE), target_epsilon, _COARSE_TOLERANCE, start)
    return _solve(cost_on(discretization), target_epsilon, _TOLERANCE, start)


def require_target(target_epsilon: float, target_delta: float) -> None:
    """Raise ValueError for a target that no guarantee has."""
    if not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise ValueError(f"target_epsilon must be positive and finite, not {target_epsilon!r}")
    if not 0 < target_delta < 1:
        raise ValueError(f"target_delta must lie in (0, 1), not {target_delta!r}")


def _solve(cost: Callable[[float], float], target: float, tolerance: float, mu: float) -> float:
    """Find `mu` with cost in [(1 - tolerance) target, target]: secant in log-log, or bisection."""
    low, high = 1e-4, 1e4
    low_cost, high_cost = 0.0, math.inf
    goal = target * (1 - tolerance / 2)
    slope, previous, trials = 1.0, None, 0
    while high / low > 1 + 1e-6:
        now = cost(mu)
        trials += 1
        if (1 - tolerance) * target <= now <= target:
            return mu
        if now <= target:
            low, low_cost = mu, now
        else:
            high, high_cost = mu, now
        if 0 < now < math.inf and trials < 8:
            if previous:
                measured = math.log(now / previous[1]) / math.log(mu / previous[0])
                slope = min(max(measured, 0.5), 4.0)
            previous = (mu, now)
            mu *= (goal / now) ** (1 / slope)
        else:
            mu = 0.0
        if not low < mu < high:
            mu = math.sqrt(low * high)
    if low_cost == 0.0:
        raise ValueError(
            f"an epsilon of {target:.6g} is too small for this plan: even the most noise that is "
            "tried costs more"
        )
    if high_cost == math.inf:
        raise ValueError(
            f"an epsilon of {target:.6g} is too large to be accounted for with this plan: choose a "
            "smaller one, since above about 20 a guarantee says next to nothing"
        )
    return low


def gaussian_noise_multiplier(*, mu: float, share: float, count: int = 1) -> float:
    """Return the noise multiplier of each of `count` Gaussians for a share of `mu`^2 (exact).

    >>> gaussian_noise_multiplier(mu=0.5, share=1.0)
    2.0
    """
    return math.sqrt(count) / _spent(mu, share, count)


def sampled_noise_multiplier(*, mu: float, share: float, sample_rate: float, steps: int) -> float:
    """Return the noise multiplier of `steps` Poisson-sampled Gaussians for a share of `mu`^2.

    Their Rényi divergence at order 1 + 5 / mu is set to the share's, order * share * mu^2 / 2. The
    order that turns a Gaussian of parameter mu into its smallest epsilon is
    1 + sqrt(2 log(1 / delta)) / mu, and 5 stands for deltas of about 1e-5 to 1e-6. The central
    limit theorem of Gaussian DP (Bu, Dong, Long, Su, "Deep learning with Gaussian differential
    privacy", 2020, corollary 4) would be a closed form, but a wrong one for few steps: their loss
    is small for nearly all outcomes and large for those that only a sampled person makes likely,
    so such a stage would cost a multiple of its share.

    Raises:
        ValueError: `sample_rate` is not in (0, 1], or `mu`, `share` or `steps` is out of range.
    """
    if not 0 < sample_rate <= 1:
        raise ValueError(f"sample_rate must lie in (0, 1], not {sample_rate!r}")
    everybody = gaussian_noise_multiplier(mu=mu, share=share, count=steps)
    if sample_rate == 1:
        return everybody
    order = 1 + 5 / mu
    goal = order * steps / (2 * everybody**2)
    low, high = 0.1 * sample_rate * everybody, everybody  # more noise is never needed
    if _sampled_divergence(low, sample_rate, steps, order) <= goal:
        return low
    while high / low > 1 + 1e-9:
        middle = math.sqrt(low * high)
        if _sampled_divergence(middle, sample_rate, steps, order) > goal:
            low = middle
        else:
            high = middle
    return high


def _sampled_divergence(sigma: float, rate: float, steps: int, order: float) -> float:
    event = PoissonSampledGaussian(noise_multiplier=sigma, sample_rate=rate, count=steps)
    return rdp([event], order=order)


def selection_epsilon(*, mu: float, share: float, count: int) -> float:
    """Return the epsilon of each of `count` exponential selections for a share of `mu`^2.

    An epsilon-DP exponential mechanism is epsilon^2 / 8-zCDP (Cesar and Rogers, "Bounding,
    concentrating, and truncating", 2021), and a Gaussian of parameter mu is mu^2 / 2-zCDP. The
    accountant's loss distribution of a `BoundedRange` event holds for any choice of the worst case
    and costs about four thirds of the share.
    """
    return 2 * _spent(mu, share, count) / math.sqrt(count)


def _spent(mu: float, share: float, count: int) -> float:
    if not (math.isfinite(mu) and mu > 0):
        raise ValueError(f"mu must be positive and finite, not {mu!r}")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share!r}")
    if count < 1:
        raise ValueError(f"a stage must use its share at least once, not {count!r} times")
    return mu * math.sqrt(share)
