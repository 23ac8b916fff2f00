"""Costs: equal to independent computations of the same quantity."""

import math

import numpy as np
import pytest
from dp_accounting import (
    ComposedDpEvent,
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from dagster_project.privacy.accounting import (
    cost_table,
    epsilon,
    epsilon_prv,
    true_positive_rates,
)
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.plan import PlannedMechanism
from dagster_project.privacy.renyi import rdp

DELTA = 1e-5
PLAN = [
    BoundedRange(epsilon=0.05, count=12),
    DiscreteGaussian(sigma=40.0, count=20),
    Gaussian(noise_multiplier=8.0),
    PoissonSampledGaussian(noise_multiplier=2.0, sample_rate=0.05, count=100),
]


def foreign(event):
    """The same event in dp-accounting's own words."""
    once = GaussianDpEvent(event.noise_multiplier)
    if isinstance(event, PoissonSampledGaussian):
        once = PoissonSampledDpEvent(event.sample_rate, once)
    return SelfComposedDpEvent(once, event.count)


def accountant_epsilon(events, grid):
    accountant = PLDAccountant(
        NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=grid
    )
    accountant.compose(ComposedDpEvent([foreign(event) for event in events]))
    return accountant.get_epsilon(DELTA)


gaussians = st.builds(Gaussian, noise_multiplier=st.floats(1.0, 50.0), count=st.integers(1, 20))
sampled = st.builds(
    PoissonSampledGaussian,
    noise_multiplier=st.floats(0.8, 10.0),
    sample_rate=st.floats(1e-3, 0.5),
    count=st.integers(1, 500),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(gaussians | sampled, min_size=1, max_size=3))
def test_equals_dp_accounting_on_what_it_supports(events):
    ours = epsilon(events, target_delta=DELTA, discretization=1e-3)
    assert ours == pytest.approx(accountant_epsilon(events, 1e-3), abs=1e-6)


def test_equals_dp_accounting_on_the_fine_grid():
    events = [event for event in PLAN if hasattr(event, "noise_multiplier")]
    ours = epsilon(events, target_delta=DELTA)
    assert ours == pytest.approx(accountant_epsilon(events, 1e-4), abs=1e-6)


@pytest.mark.parametrize("sigma", [0.8, 3.0, 30.0])
def test_one_gaussian_against_its_closed_form(sigma):
    """Balle and Wang 2018, theorem 8."""

    def excess(eps):
        a, b = 1 / (2 * sigma), eps * sigma
        return stats.norm.cdf(a - b) - math.exp(eps) * stats.norm.cdf(-a - b) - DELTA

    exact = optimize.brentq(excess, 0.0, 60.0)
    ours = epsilon([Gaussian(noise_multiplier=sigma)], target_delta=DELTA)
    assert exact - 1e-9 <= ours <= exact + 1e-4


@pytest.mark.parametrize(("sigma", "count"), [(2.0, 1), (3.7, 5), (20.0, 20)])
def test_discrete_gaussian_against_exact_convolution(sigma, count):
    """The sum of all draws decides the loss, so that the exact delta is one finite sum."""
    reach = math.ceil(14 * sigma)
    support = np.arange(-reach, reach + 1)
    once = np.exp(-(support**2) / (2 * sigma**2))
    once /= once.sum()
    mass = np.ones(1)
    for _ in range(count):
        mass = np.convolve(mass, once)
    total = np.arange(mass.size) - count * reach
    loss = (2 * total + count) / (2 * sigma**2)

    def excess(eps):
        return (mass * -np.expm1(np.minimum(eps - loss, 0.0))).sum() - DELTA

    exact = optimize.brentq(excess, 0.0, 60.0)
    event = DiscreteGaussian(sigma=sigma, count=count)
    ours = epsilon([event], target_delta=DELTA)
    assert exact - 1e-9 <= ours <= exact + 1e-4 * count
    assert ours == pytest.approx(exact, rel=2e-3)


def test_joint_cost_is_below_the_sum_and_above_each_part():
    alone = [epsilon([event], target_delta=DELTA) for event in PLAN]
    joint = epsilon(PLAN, target_delta=DELTA)
    assert max(alone) < joint < sum(alone)
    assert epsilon(PLAN[::-1], target_delta=DELTA) == pytest.approx(joint, abs=1e-6)


@pytest.mark.parametrize("event", PLAN)
def test_more_uses_cost_more(event):
    more = type(event)(**{**vars(event), "count": event.count + 1})
    assert epsilon([more], target_delta=DELTA) > epsilon([event], target_delta=DELTA)
    assert rdp([more], order=8.0) > rdp([event], order=8.0)


def test_nothing_costs_nothing_and_no_protection_is_infinite():
    assert epsilon([], target_delta=DELTA) == rdp([], order=2.0) == 0.0
    for event in (
        Gaussian(noise_multiplier=1e-9),
        PoissonSampledGaussian(noise_multiplier=1e-9, sample_rate=0.1),
        DiscreteGaussian(sigma=1e-9),
        BoundedRange(epsilon=1e9),
    ):
        assert epsilon([event], target_delta=DELTA) == math.inf
        assert epsilon_prv([Gaussian(noise_multiplier=1e-9)], target_delta=DELTA) is None
        assert rdp([event], order=8.0) > 1e8


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_refuses_a_delta_outside_zero_to_one(delta):
    for cost in (epsilon, epsilon_prv):
        with pytest.raises(ValueError, match="target_delta"):
            cost(PLAN, target_delta=delta)


@pytest.mark.parametrize("grid", [0.0, 1.0, math.nan])
def test_refuses_an_unusable_grid(grid):
    with pytest.raises(ValueError, match="discretization"):
        epsilon(PLAN, target_delta=DELTA, discretization=grid)


@pytest.mark.parametrize("order", [1.0, 0.5, math.inf, math.nan])
def test_refuses_an_order_that_is_not_above_one(order):
    with pytest.raises(ValueError, match="order"):
        rdp(PLAN, order=order)


@settings(max_examples=40, deadline=None)
@given(gaussians | sampled, st.integers(2, 64))
def test_rdp_at_whole_orders_implies_dp_accountings_epsilon(event, order):
    accountant = RdpAccountant([order])
    accountant.compose(foreign(event))
    bound = rdp([event], order=order)
    # Canonne, Kamath, Steinke 2020, proposition 12: how any RDP converts to epsilon.
    ours = bound + math.log1p(-1 / order) - math.log(1e-9 * order) / (order - 1)
    assert ours == pytest.approx(accountant.get_epsilon(1e-9), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("sigma", "rate", "order"), [(1.0, 0.02, 2.5), (0.7, 0.01, 1.5), (3.0, 0.3, 12.25)]
)
def test_rdp_at_fractional_orders_against_quadrature(sigma, rate, order):
    def integrand(z):
        ratio = 1 - rate + rate * math.exp((2 * z - 1) / (2 * sigma**2))
        return stats.norm.pdf(z, scale=sigma) * ratio**order

    moment, _ = integrate.quad(
        integrand,
        -15 * sigma,
        order + 15 * sigma,
        points=[0, order],
        epsabs=0,
        epsrel=1e-12,
        limit=500,
    )
    event = PoissonSampledGaussian(noise_multiplier=sigma, sample_rate=rate)
    assert rdp([event], order=order) == pytest.approx(math.log(moment) / (order - 1), rel=1e-6)


def test_rdp_closed_forms_add_up():
    assert rdp([Gaussian(noise_multiplier=2.0, count=3)], order=4.0) == pytest.approx(1.5)
    assert rdp([DiscreteGaussian(sigma=2.0, count=3)], order=4.0) == pytest.approx(1.5)
    assert rdp([BoundedRange(epsilon=0.1, count=2)], order=4.0) == pytest.approx(0.01)
    assert rdp([BoundedRange(epsilon=3.0, count=2)], order=4.0) == pytest.approx(6.0)
    everyone = PoissonSampledGaussian(noise_multiplier=2.0, sample_rate=1.0, count=3)
    assert rdp([everyone], order=4.0) == pytest.approx(1.5)
    assert rdp(PLAN, order=9.5) == pytest.approx(sum(rdp([event], order=9.5) for event in PLAN))


def test_second_opinion_agrees_on_gaussian_plans():
    rng = np.random.default_rng(7)
    for _ in range(4):
        events = [
            Gaussian(noise_multiplier=float(rng.uniform(4, 20)), count=int(rng.integers(1, 4))),
            PoissonSampledGaussian(
                noise_multiplier=float(rng.uniform(1, 4)),
                sample_rate=float(rng.uniform(0.005, 0.05)),
                count=int(rng.integers(20, 200)),
            ),
        ]
        ours = epsilon(events, target_delta=DELTA)
        # Opacus adds its error bound of 0.01 to its estimate.
        assert abs(epsilon_prv(events, target_delta=DELTA) - ours) < 0.02
    gaussian_part = [event for event in PLAN if hasattr(event, "noise_multiplier")]
    both = [epsilon_prv(events, target_delta=DELTA) for events in (PLAN, gaussian_part)]
    assert both[0] == both[1]
    assert epsilon_prv([BoundedRange(epsilon=1.0)], target_delta=DELTA) == 0.0


def test_cost_table():
    mechanisms = [
        PlannedMechanism(name=f"stage.{index}", stage="stage", event=event, declared={})
        for index, event in enumerate(PLAN)
    ]
    rows = cost_table(mechanisms, target_delta=DELTA, discretization=1e-3)
    assert [row["name"] for row in rows] == ["stage.0", "stage.1", "stage.2", "stage.3", "all"]
    assert rows[0]["event"] == {"type": "bounded_range", "epsilon": 0.05, "count": 12}
    assert rows[-1]["epsilon"] == epsilon(PLAN, target_delta=DELTA, discretization=1e-3)
    assert rows[-1]["epsilon"] < sum(row["epsilon"] for row in rows[:-1])


RATES = (1e-4, 0.001, 0.01, 0.05, 0.1, 0.5, 0.9)


@pytest.mark.parametrize("sigma", [0.5, 0.8, 3.0, 30.0])
@pytest.mark.parametrize("count", [1, 4])
def test_trade_off_of_gaussians_against_its_closed_form(sigma, count):
    """mu-GDP composes to sqrt(k) mu (Dong, Roth, Su 2022, corollary 3.3)."""
    mu = math.sqrt(count) / sigma
    exact = stats.norm.cdf(stats.norm.ppf(RATES) + mu)
    events = [Gaussian(noise_multiplier=sigma)] * count
    ours = np.array(true_positive_rates(events, RATES))
    assert (ours >= exact).all()
    assert ours == pytest.approx(exact, abs=1e-6)


def test_trade_off_never_falls_below_the_best_test_of_composed_events():
    """Randomised responses: the number of heads decides, so each threshold's rates are finite
    sums, and by Neyman and Pearson no test is better."""
    coin, k = 0.4, 7
    heads = np.arange(k + 1)
    inside = stats.binom.pmf(heads, k, 1 / (1 + math.exp(-coin)))
    outside = inside[::-1]
    exact = [(outside[i:].sum(), inside[i:].sum()) for i in range(1, k + 1)]
    rates, powers = np.array(exact).T
    # One of the worst cases of a range of 2 coin: all of them together lie above it.
    event = BoundedRange(epsilon=2 * coin, count=k)
    ours = np.array(true_positive_rates([event], rates.clip(0, 1)))
    assert (ours >= powers - 1e-12).all()
    assert ours == pytest.approx(powers, abs=0.1)


def test_trade_off_of_a_sampled_gaussian_holds_in_both_directions():
    """One Poisson-sampled Gaussian: N(0, s^2) against its mixture with N(1, s^2), either way."""
    sigma, rate = 0.8, 0.3
    cuts = np.linspace(-6, 8, 2_000)
    out = stats.norm.sf(cuts / sigma)
    mixed = (1 - rate) * out + rate * stats.norm.sf((cuts - 1) / sigma)
    event = PoissonSampledGaussian(noise_multiplier=sigma, sample_rate=rate)
    for false, true in ((out, mixed), (1 - mixed, 1 - out)):
        ours = np.array(true_positive_rates([event], false))
        assert (ours >= true - 1e-12).all()
    assert true_positive_rates([event], [0.01])[0] < 1.5 * np.interp(0.01, out[::-1], mixed[::-1])


def test_trade_off_rises_with_the_false_positives_and_with_each_event():
    alone, more = (np.array(true_positive_rates(PLAN[:n], RATES)) for n in (3, 4))
    for curve in (alone, more):
        assert (np.diff(curve) > 0).all() and (curve > RATES).all() and (curve <= 1).all()
    assert (more > alone).all()
    assert true_positive_rates([], RATES) == RATES
    assert true_positive_rates([Gaussian(noise_multiplier=0.05)], RATES) == (1.0,) * len(RATES)
    with pytest.raises(ValueError, match="rates"):
        true_positive_rates(PLAN, [1.01])


def test_trade_off_is_below_what_epsilon_and_delta_alone_allow():
    bound = epsilon(PLAN, target_delta=DELTA)
    for rate, power in zip(RATES, true_positive_rates(PLAN, RATES), strict=True):
        assert power <= math.exp(bound) * rate + DELTA + 1e-9
