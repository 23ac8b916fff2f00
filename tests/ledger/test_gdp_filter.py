"""The lifetime filter: what a release costs covers it, and no adaptive choice passes the cap."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dagster_project.ledger import BudgetExceeded, Ledger, gdp_filter
from dagster_project.privacy import loss_distributions
from dagster_project.privacy.accounting import epsilon, gdp_cost
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.plan import PlannedMechanism
from tests.ledger.toys import plan, population

DELTA = 1e-6
LEAK = gdp_filter.leak(10.0, target_delta=DELTA)
SELECTIONS = BoundedRange(epsilon=0.012, count=20)
TABLE = DiscreteGaussian(sigma=35.0, count=28)
SAMPLED = PoissonSampledGaussian(noise_multiplier=0.9, sample_rate=0.02, count=60)
PLANS: list[list[Event]] = [
    [SELECTIONS, TABLE, Gaussian(noise_multiplier=5.6)],
    [DiscreteGaussian(sigma=1.5, count=3), BoundedRange(epsilon=0.8)],
    [SAMPLED],
    [PoissonSampledGaussian(noise_multiplier=1.2, sample_rate=0.05), TABLE],
    [BoundedRange(epsilon=2.0, count=2), Gaussian(noise_multiplier=2.0)],
]


def leaky(losses: np.ndarray, b: float, leak: float = LEAK) -> np.ndarray:
    """Delta of D(b) at each epsilon, of any sign."""
    mu, leaked = math.sqrt(b), -math.expm1(-leak * b)
    gauss = stats.norm.cdf(mu / 2 - losses / mu)
    gauss -= np.exp(losses) * stats.norm.cdf(-mu / 2 - losses / mu)
    return (1 - leaked) * gauss + leaked


@given(lifetime=st.floats(0.05, 150), exponent=st.floats(3, 12), part=st.floats(1e-3, 1))
def test_the_cap_is_where_the_costs_stand_for_the_lifetime_epsilon(
    lifetime: float, exponent: float, part: float
) -> None:
    delta = 10**-exponent
    cap = gdp_filter.cap(lifetime, target_delta=delta)
    leak = gdp_filter.leak(lifetime, target_delta=delta)
    assert gdp_filter.epsilon_of(cap, target_delta=delta) == pytest.approx(lifetime, rel=1e-9)
    assert gdp_filter.epsilon_of(part * cap, target_delta=delta) <= lifetime
    # At the cap the pair's delta, its leak included, is the population's.
    found = leaky(np.array([lifetime]), cap, leak)[0]
    assert found == pytest.approx(delta, rel=1e-4)
    shown = gdp_filter.epsilon_of(part * cap, target_delta=delta)
    assert leaky(np.array([shown]), part * cap, leak)[0] <= delta * (1 + 1e-4)


@pytest.mark.parametrize(("b", "largest"), [(1e-4, 0.2), (0.3, 8.0), (30.0, 90.0)])
def test_gaussian_delta_against_scipy(b: float, largest: float) -> None:
    for loss in np.linspace(0, largest, 7):
        exact = leaky(np.array([loss]), b, 0.0)[0]
        assert gdp_filter.gaussian_delta(loss, b) == pytest.approx(exact, rel=1e-6, abs=1e-14)
    assert gdp_filter.gaussian_delta(300.0, b) >= 0


@pytest.mark.parametrize("events", PLANS)
def test_a_cost_dominates_its_events_and_a_smaller_one_does_not(events: list[Event]) -> None:
    cost = gdp_cost(events, leak=LEAK)
    parts = [loss_distributions.of_event(event, 1e-4) for event in events]
    composed = reduce(lambda one, other: one.compose(other), parts)
    losses = np.random.default_rng(0).uniform(0, 12, 2000)  # anywhere between the knots
    losses = np.sort(np.append(losses, 0.0))
    truth = np.asarray(composed.get_delta_for_epsilon(losses.tolist()))
    assert np.all(truth <= leaky(losses, cost) + 1e-15)
    assert np.any(truth > leaky(losses, 0.99 * cost))


def test_costs_of_gaussians_are_exact_and_costs_of_others_near_their_epsilon() -> None:
    assert gdp_cost([], leak=LEAK) == 0
    assert gdp_cost([Gaussian(noise_multiplier=2.0, count=3)], leak=LEAK) == 0.75
    more = [Gaussian(noise_multiplier=2.0, count=3), Gaussian(noise_multiplier=4.0)]
    assert gdp_cost(more, leak=LEAK) == 0.8125
    nearly = [Gaussian(noise_multiplier=2.0), DiscreteGaussian(sigma=20.0, count=100)]
    assert gdp_cost(nearly, leak=LEAK) == pytest.approx(0.5, rel=1e-4)
    assert gdp_cost([BoundedRange(epsilon=1e6)], leak=LEAK) == math.inf
    shown = gdp_filter.epsilon_of(gdp_cost(PLANS[0], leak=LEAK), target_delta=DELTA)
    alone = epsilon(PLANS[0], target_delta=DELTA)
    assert alone <= shown < 1.005 * alone
    assert gdp_filter.epsilon_of(0.0, target_delta=DELTA) == 0.0


@settings(max_examples=40, deadline=None)
@given(one=st.floats(0.01, 3), other=st.floats(0.01, 3))
def test_pairs_compose_to_the_pair_of_the_sum(one: float, other: float) -> None:
    """Under the second hypothesis the likelihood ratio of D(one) has a mean, over which the delta
    of D(other) is averaged; a sure sign of the first counts in full."""
    losses, leak = np.linspace(0, 5, 11), 0.02
    z = np.linspace(-12, 12, 4001)
    ratio = math.sqrt(one) * z - one / 2
    weight = stats.norm.pdf(z) * (z[1] - z[0])
    kept = math.exp(-leak * one)
    product = np.array(
        [kept * np.sum(weight * np.exp(ratio) * leaky(s - ratio, other, leak)) for s in losses]
    )
    product += 1 - kept
    np.testing.assert_allclose(product, leaky(losses, one + other, leak), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bold_after_luck", [True, False])
def test_no_adaptive_choice_passes_the_cap(bold_after_luck: bool) -> None:
    """A second release chosen by the first one's outcome, each of a different kind and both paid:
    for every epsilon the two together are within D(cap)."""
    first = 0.3
    choices: list[list[Event]] = [[SAMPLED], PLANS[1], PLANS[4]]
    costs = [gdp_cost(events, leak=LEAK) for events in choices]
    cap = first + max(costs)
    grid = np.linspace(-25, 25, 1001)
    tables = []
    for events in choices:
        parts = [loss_distributions.of_event(event, 1e-3) for event in events]
        composed = reduce(lambda one, other: one.compose(other), parts)
        tables.append(np.asarray(composed.get_delta_for_epsilon(grid.tolist())))
    z = np.linspace(-10, 10, 2001)
    ratio = math.sqrt(first) * z - first / 2
    weight = stats.norm.pdf(z) * (z[1] - z[0])
    # By thirds of the outcome, in either direction: whatever an analyst would make of it.
    order = np.digitize(z if bold_after_luck else -z, [-0.4, 0.7])
    for s in np.linspace(0, 10, 21):
        second = np.choose(order, [np.interp(s - ratio, grid, table) for table in tables])
        both = float(np.sum(weight * np.exp(ratio) * second))
        assert both <= leaky(np.array([s]), cap)[0] + 1e-7  # 1e-7 is of the grids of this test


def released(ledger: Ledger, name: str, *events: Event, target_epsilon: float = 10.0) -> None:
    mechanisms = [
        PlannedMechanism(name=f"table_model.{i}", stage="table_model", event=event, declared={})
        for i, event in enumerate(events)
    ]
    made = plan(name, *mechanisms, target_epsilon=target_epsilon, composed_epsilon=target_epsilon)
    ledger.reserve(made, approved_by="steward", schema_public=False)
    ledger.open_reservation(name)


def test_a_release_within_the_cap_by_its_own_epsilon_fits_alone(tmp_path) -> None:
    """Its tail is far from a Gaussian's: as a part of many releases it would cost more."""
    tailed = PoissonSampledGaussian(noise_multiplier=0.55, sample_rate=0.05, count=40)
    alone = epsilon([tailed], target_delta=DELTA)
    cap = alone * 1.001
    ledger = Ledger.open(population(tmp_path, lifetime_epsilon=cap))
    leak = gdp_filter.leak(cap, target_delta=DELTA)
    assert gdp_cost([tailed], leak=leak) > gdp_filter.cap(cap, target_delta=DELTA)
    released(ledger, "first", tailed, target_epsilon=cap)
    cohort = ledger.cohorts()[0]
    assert cohort.remaining == 0 and cohort.share == 1 and cohort.lifetime_epsilon == cap
    with pytest.raises(BudgetExceeded):
        released(ledger, "second", Gaussian(noise_multiplier=1e4))
    ledger.verify(reprice=True)

    other = Ledger.open(population(tmp_path / "other", lifetime_epsilon=cap))
    released(other, "first", Gaussian(noise_multiplier=1e4))
    with pytest.raises(BudgetExceeded):
        released(other, "second", tailed, target_epsilon=cap)
