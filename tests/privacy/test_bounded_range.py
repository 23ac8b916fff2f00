"""Selections: what is charged is never below the truth of explicit exponential mechanisms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from dagster_project.privacy import loss_distributions
from dagster_project.privacy.accounting import epsilon
from dagster_project.privacy.events import BoundedRange, Gaussian

GRID = 1e-3


def charged(event: BoundedRange, losses: np.ndarray, grid: float = GRID) -> np.ndarray:
    """Delta of the event at each epsilon."""
    composed = loss_distributions.of_event(event, grid)
    return np.array([composed.get_delta_for_epsilon(float(s)) for s in losses])


def selection(scores: np.ndarray, bound: float) -> np.ndarray:
    """Probabilities of the exponential mechanism on scores of sensitivity 1."""
    weights = np.exp(bound * (scores - scores.max()) / 2)
    return weights / weights.sum()


def neighbours(rng: np.random.Generator, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Two scores' probabilities: anywhere within the sensitivity, or at its limits, which are the
    worst cases where one side has the right mass."""
    size = int(rng.integers(2, 6))
    scores = rng.normal(size=size) * rng.choice([0.1, 1.0, 10.0]) / bound
    change = rng.uniform(-1, 1, size) if rng.random() < 0.3 else rng.choice([-1.0, 1.0], size)
    return selection(scores, bound), selection(scores + change, bound)


def composed(rng: np.random.Generator, bound: float, uses: int) -> tuple[np.ndarray, np.ndarray]:
    """Joint probabilities of selections whose scores are chosen anew after each outcome."""
    one, other = neighbours(rng, bound)
    if uses == 1:
        return one, other
    later = [composed(rng, bound, uses - 1) for _ in one]
    return (
        np.concatenate([mass * rest[0] for mass, rest in zip(one, later, strict=True)]),
        np.concatenate([mass * rest[1] for mass, rest in zip(other, later, strict=True)]),
    )


@pytest.mark.parametrize("uses", [1, 2, 3])
@pytest.mark.parametrize("bound", [0.05, 0.7, 3.0])
def test_explicit_selections_never_pass_what_is_charged(bound: float, uses: int) -> None:
    rng = np.random.default_rng(uses)
    losses = np.linspace(0, 1.05 * uses * bound, 40)
    limit = charged(BoundedRange(epsilon=bound, count=uses), losses)
    reached = 0.0
    for _ in range(400):
        one, other = composed(rng, bound, uses)
        for p, q in ((one, other), (other, one)):
            truth = np.maximum(p - np.exp(losses)[:, None] * q, 0).sum(axis=1)
            assert np.all(truth <= limit + 1e-12)
            reached = max(reached, float((truth[:-4] / limit[:-4])[limit[:-4] > 1e-3].max()))
    assert reached > {1: 0.97, 2: 0.6, 3: 0.5}[uses]  # the adversary is no weak one


@pytest.mark.parametrize("bound", [0.0004, 0.3333, 5.0])
def test_one_selection_is_charged_its_worst_two_outcomes(bound: float) -> None:
    """At every loss s by the worst split t, found by search; in chords of the grid, from above."""

    def two_outcomes(t: float, s: float) -> float:
        first = (math.exp(-t) - math.exp(-bound)) / -math.expm1(-bound)
        masses = ((first * math.exp(t), first), ((1 - first) * math.exp(t - bound), 1 - first))
        return sum(max(p - math.exp(s) * q, 0.0) for p, q in masses)

    losses = np.linspace(0, 0.98 * bound, 9)
    limit = charged(BoundedRange(epsilon=bound), losses, 1e-4)
    for s, charge in zip(losses, limit, strict=True):
        worst = max(two_outcomes(t, s) for t in np.linspace(1e-9, bound - 1e-9, 2001))
        assert worst - 1e-12 <= charge <= worst + 1e-4


def test_the_best_adaptive_adversary_stays_below_the_charge() -> None:
    """Two selections, the second one's split chosen for the first one's outcome, optimally."""
    bound = 0.7
    losses = np.linspace(0, 1.95 * bound, 30)

    def curve(s: np.ndarray) -> np.ndarray:
        inside = np.expm1((np.clip(s, -bound, bound) - bound) / 2) ** 2 / -math.expm1(-bound)
        return np.where(s < -bound, -np.expm1(s), inside)

    splits = np.linspace(0, bound, 801)[:, None]
    first = (np.exp(-splits) - math.exp(-bound)) / -math.expm1(-bound)
    after = np.exp(splits) * first * curve(losses - splits)
    after += np.exp(splits - bound) * (1 - first) * curve(losses - splits + bound)
    limit = charged(BoundedRange(epsilon=bound, count=2), losses)
    assert np.all(after.max(axis=0) <= limit)
    assert np.all(after.max(axis=0) >= 0.75 * limit)


def test_one_selection_against_its_closed_form() -> None:
    bound, delta = 0.8, 1e-5
    ours = epsilon([BoundedRange(epsilon=bound)], target_delta=delta)
    exact = bound + 2 * math.log1p(-math.sqrt(delta * -math.expm1(-bound)))
    assert exact - 1e-9 <= ours <= exact + 1e-4


@pytest.mark.parametrize(("bound", "count"), [(1.0, 1), (0.05, 12), (0.3, 40), (1.0, 100)])
def test_self_composition(bound: float, count: int) -> None:
    grid = {"target_delta": 1e-5, "discretization": GRID}
    ours = epsilon([BoundedRange(epsilon=bound, count=count)], **grid)
    loop = epsilon([BoundedRange(epsilon=bound)] * count, **grid)
    assert ours == pytest.approx(loop, abs=1e-6)


def pure_epsilon(bound: float, count: int) -> float:
    """Optimal composition of mechanisms known to be `bound`-DP alone (Kairouz et al. 2015)."""
    heads = np.arange(count + 1)
    mass = stats.binom.pmf(heads, count, 1 / (1 + math.exp(-bound)))
    loss = (2 * heads - count) * bound

    def excess(limit: float) -> float:
        return float((mass * -np.expm1(np.minimum(limit - loss, 0.0))).sum()) - 1e-6

    return float(optimize.brentq(excess, 0.0, count * bound + 1))


@pytest.mark.parametrize(("bound", "count"), [(1.0, 1), (0.012, 20), (0.3, 40), (1.0, 100)])
def test_the_range_is_worth_a_third_of_pure_dp(bound: float, count: int) -> None:
    ours = epsilon([BoundedRange(epsilon=bound, count=count)], target_delta=1e-6)
    assert ours <= pure_epsilon(bound, count)
    if count > 1:
        assert ours < 0.75 * pure_epsilon(bound, count)
    # In the limit of many, each is a Gaussian of parameter bound / sqrt(3).
    limit = epsilon([Gaussian(noise_multiplier=3**0.5 / bound, count=count)], target_delta=1e-6)
    assert ours < 1.03 * limit


def test_a_range_below_one_grid_cell_is_not_rounded_up() -> None:
    event = BoundedRange(epsilon=0.0004, count=1000)
    coarse = epsilon([event], target_delta=1e-6, discretization=1e-3)
    assert coarse <= 2.1 * epsilon([event], target_delta=1e-6, discretization=1e-5)


def test_the_loss_is_bounded_where_delta_vanishes() -> None:
    assert epsilon([BoundedRange(epsilon=0.5, count=4)], target_delta=1e-12) <= 2.0001
