"""The privacy filter that limits spending: it adds squares of Gaussian-DP parameters.

Releases are chosen after seeing earlier ones, so their costs may only be added in a way that holds
under adaptive choice. A release costs the smallest b such that it reveals no more than the pair

    D(b): (1 - l) N(sqrt(b), 1) + l * (a sure sign)   against   (1 - l) N(0, 1) + l * (another),

that is, in both directions and for every epsilon, its delta is at most
(1 - l) delta_sqrt(b)(epsilon) + l, with 1 - l = exp(-leak b) and a leak fixed for the population.
These pairs form a semigroup, D(b) x D(c) = D(b + c): the means of Gaussians add in squares, and the
probabilities of no sign multiply. So by induction over releases, everything that follows a release
of cost b under a budget of B is dominated by D(B - b) given any output so far, and all of it
together by D(b) x D(B - b) = D(B), since dominating pairs compose under adaptive choice (Zhu, Dong,
Wang, "Optimal accounting of differential privacy via characteristic function", 2022, theorem 10).
Without the leak this is the filter of Smith and Thakurta, "Fully adaptive composition for Gaussian
differential privacy", 2022; the leak makes room for tails that are not Gaussian. The proof for
interleaved releases is in docs/method.md.
"""

from __future__ import annotations

import math

# The fraction of the population's delta that may leak. More costs Gaussian releases (5 % takes
# 0.4 % of the budget of epsilon 10); less costs those with DP-SGD, whose tails are heavier.
_LEAKING = 0.05

# Above this a guarantee is meaningless, and exponentials come near their range.
LARGEST_EPSILON = 200.0


def gaussian_delta(epsilon: float, b: float) -> float:
    """Return delta of the Gaussian mechanism with parameter mu^2 = `b` (Balle and Wang 2018,
    theorem 8); above `LARGEST_EPSILON` an upper bound.

    >>> round(gaussian_delta(1.0, 0.25), 4)
    0.0068
    """
    mu = math.sqrt(b)
    first = _normal(mu / 2 - epsilon / mu)
    if epsilon > LARGEST_EPSILON:
        return first
    return max(0.0, first - math.exp(epsilon) * _normal(-mu / 2 - epsilon / mu))


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def cap(lifetime_epsilon: float, *, target_delta: float) -> float:
    """Return the largest sum of costs within a lifetime epsilon: the inverse of `epsilon_of`.

    >>> round(cap(10.0, target_delta=1e-6), 3)
    3.401
    """
    low, high = 0.0, 1.0
    while epsilon_of(high, target_delta=target_delta) <= lifetime_epsilon:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        within = epsilon_of(middle, target_delta=target_delta) <= lifetime_epsilon
        low, high = (middle, high) if within else (low, middle)
    return low


def releases_left(remaining: float, *, target_delta: float) -> int:
    """Return how many releases at epsilon 1 still fit: the unit in which people are told of a
    budget, together with the share of the cap that is used.

    >>> releases_left(cap(10.0, target_delta=1e-6), target_delta=1e-6)
    61
    """
    return max(0, math.floor(remaining / cap(1.0, target_delta=target_delta)))


def percent(share: float) -> str:
    """Return a share of the cap in words, rounded up to a tenth of a per cent.

    >>> percent(0.1301)
    '13.1 %'
    """
    return f"{math.ceil(1000 * share - 1e-6) / 10:g} %"


def leak(lifetime_epsilon: float, *, target_delta: float) -> float:
    """Return the leak for each unit of cost, such that a spent cap leaks a fixed fraction of
    `target_delta`."""
    most = cap(lifetime_epsilon, target_delta=target_delta)
    return -math.log1p(-_LEAKING * target_delta) / most


def epsilon_of(spent: float, *, target_delta: float) -> float:
    """Return the epsilon, at `target_delta`, of releases that cost `spent` together.

    Everything that a spent cap may leak is subtracted from delta, so this is an upper bound for
    smaller costs.

    >>> round(epsilon_of(1 / 4.2**2, target_delta=1e-6), 3)
    1.01
    """
    if spent <= 0:
        return 0.0
    leaked = _LEAKING * target_delta
    goal = (target_delta - leaked) / (1 - leaked)
    low, high = 0.0, 1.0
    if gaussian_delta(low, spent) <= goal:
        return 0.0
    while gaussian_delta(high, spent) > goal:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(middle, spent) <= goal else (middle, high)
    return high
