"""Calibration: never above the target, never far below it."""

import math

import pytest

from dagster_project.privacy.accounting import epsilon
from dagster_project.privacy.calibration import (
    calibrate,
    gaussian_noise_multiplier,
    sampled_noise_multiplier,
    selection_epsilon,
)
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.renyi import rdp

DELTA = 1e-5


def whole_plan(sample_rate, steps):
    def events_of(mu):
        return [
            BoundedRange(epsilon=selection_epsilon(mu=mu, share=0.05, count=12), count=12),
            DiscreteGaussian(
                sigma=gaussian_noise_multiplier(mu=mu, share=0.15, count=20), count=20
            ),
            Gaussian(noise_multiplier=gaussian_noise_multiplier(mu=mu, share=0.1)),
            PoissonSampledGaussian(
                noise_multiplier=sampled_noise_multiplier(
                    mu=mu, share=0.7, sample_rate=sample_rate, steps=steps
                ),
                sample_rate=sample_rate,
                count=steps,
            ),
        ]

    return events_of


@pytest.mark.parametrize(
    ("target", "delta", "sample_rate", "steps"),
    [
        (0.3, 1e-5, 0.05, 60),
        (0.3, 1e-6, 0.02, 3000),
        (1.0, 1e-6, 0.05, 60),
        (1.0, 1e-5, 0.05, 300),
        (3.0, 1e-6, 0.02, 3000),
        (10.0, 1e-5, 0.2, 100),
        (10.0, 1e-6, 1.0, 60),
    ],
)
def test_meets_the_target_from_below(target, delta, sample_rate, steps):
    events_of = whole_plan(sample_rate, steps)
    mu = calibrate(events_of, target_epsilon=target, target_delta=delta)
    assert 0.995 * target <= epsilon(events_of(mu), target_delta=delta) <= target


def test_a_coarse_grid_is_met_on_its_own_terms():
    events_of = whole_plan(0.05, 100)
    mu = calibrate(events_of, target_epsilon=2.0, target_delta=DELTA, discretization=1e-2)
    cost = epsilon(events_of(mu), target_delta=DELTA, discretization=1e-2)
    assert 1.99 <= cost <= 2.0


def test_a_cost_in_steps_stays_below_the_target():
    """Whole noise multipliers: no scale comes within 0.5 % of the target."""

    def events_of(mu):
        return [Gaussian(noise_multiplier=float(math.ceil(1 / mu)))]

    mu = calibrate(events_of, target_epsilon=1.0, target_delta=DELTA)
    cost = [epsilon(events_of(scale), target_delta=DELTA) for scale in (mu, mu * 1.001)]
    assert cost[0] <= 1.0 < cost[1]


@pytest.mark.parametrize("fixed", [Gaussian(noise_multiplier=1.0), Gaussian(noise_multiplier=1e6)])
def test_a_target_out_of_reach_is_refused(fixed):
    with pytest.raises(ValueError, match="is too small for this plan"):
        calibrate(lambda mu: [fixed], target_epsilon=1.0, target_delta=DELTA)


@pytest.mark.parametrize(
    "target", [(0.0, DELTA), (-1.0, DELTA), (math.nan, DELTA), (math.inf, DELTA), (1.0, 0.0)]
)
def test_refuses_targets_out_of_range(target):
    with pytest.raises(ValueError, match="target_"):
        calibrate(whole_plan(0.1, 10), target_epsilon=target[0], target_delta=target[1])


def test_gaussian_shares_are_exact():
    shares = {0.2: 1, 0.3: 7, 0.5: 20}
    events = [
        Gaussian(
            noise_multiplier=gaussian_noise_multiplier(mu=0.4, share=share, count=count),
            count=count,
        )
        for share, count in shares.items()
    ]
    assert sum(event.count / event.noise_multiplier**2 for event in events) == pytest.approx(0.16)
    whole = epsilon([Gaussian(noise_multiplier=1 / 0.4)], target_delta=DELTA)
    assert epsilon(events, target_delta=DELTA) == pytest.approx(whole, rel=1e-3)


def test_sampled_share_is_near_its_gaussian():
    sigma = sampled_noise_multiplier(mu=0.5, share=0.64, sample_rate=0.01, steps=3000)
    event = PoissonSampledGaussian(noise_multiplier=sigma, sample_rate=0.01, count=3000)
    limit = epsilon([Gaussian(noise_multiplier=1 / 0.4)], target_delta=DELTA)
    assert epsilon([event], target_delta=DELTA) == pytest.approx(limit, rel=0.05)


def test_sampling_everyone_is_the_repeated_gaussian():
    arguments = {"mu": 0.5, "share": 0.5}
    assert sampled_noise_multiplier(
        **arguments, sample_rate=1.0, steps=9
    ) == gaussian_noise_multiplier(**arguments, count=9)


@pytest.mark.parametrize("steps", [1, 60])
@pytest.mark.parametrize("mu", [0.15, 0.5, 2.0])
@pytest.mark.parametrize("sample_rate", [0.001, 0.05, 0.5])
def test_sampled_steps_spend_their_share_at_the_deciding_order(mu, sample_rate, steps):
    arguments = {"share": 0.2, "sample_rate": sample_rate, "steps": steps}
    sigma = sampled_noise_multiplier(mu=mu, **arguments)
    event = PoissonSampledGaussian(noise_multiplier=sigma, sample_rate=sample_rate, count=steps)
    order = 1 + 5 / mu
    assert rdp([event], order=order) == pytest.approx(order * 0.2 * mu**2 / 2, rel=1e-6)
    assert sigma < gaussian_noise_multiplier(mu=mu, share=0.2, count=steps)
    assert sampled_noise_multiplier(mu=mu * 1.01, **arguments) < sigma  # as the solver needs it


@pytest.mark.parametrize(
    ("mu", "part", "rate", "steps"), [(0.22, 0.2, 0.05, 1), (1.0, 0.3, 0.0256, 40)]
)
def test_the_central_limit_would_give_few_steps_far_too_little_noise(mu, part, rate, steps):
    right = sampled_noise_multiplier(mu=mu, share=part, sample_rate=rate, steps=steps)
    limit = 1 / math.sqrt(math.log1p(part * mu**2 / (rate**2 * steps)))
    costs = [
        epsilon(
            [PoissonSampledGaussian(noise_multiplier=s, sample_rate=rate, count=steps)],
            target_delta=1e-6,
        )
        for s in (right, limit)
    ]
    share = epsilon([Gaussian(noise_multiplier=1 / (mu * part**0.5))], target_delta=1e-6)
    assert costs[0] < 1.05 * share
    assert costs[1] > 1.5 * share


def test_selection_share_in_concentrated_terms():
    each = selection_epsilon(mu=0.5, share=0.2, count=12)
    assert 12 * each**2 / 8 == pytest.approx(0.2 * 0.5**2 / 2)
    cost = rdp([BoundedRange(epsilon=each, count=12)], order=2.0)
    assert cost == pytest.approx(0.2 * 0.5**2 / 2 * 2.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"mu": 0.0, "share": 0.5},
        {"mu": math.inf, "share": 0.5},
        {"mu": 1.0, "share": 0.0},
        {"mu": 1.0, "share": 1.5},
        {"mu": 1.0, "share": math.nan},
        {"mu": 1.0, "share": 0.5, "count": 0},
    ],
)
def test_refuses_malformed_shares(arguments):
    with pytest.raises(ValueError):
        gaussian_noise_multiplier(**arguments)
    with pytest.raises(ValueError):
        selection_epsilon(**{"count": 1, **arguments})


@pytest.mark.parametrize("sample_rate", [0.0, 1.5, math.nan])
def test_refuses_a_malformed_sample_rate(sample_rate):
    with pytest.raises(ValueError, match="sample_rate"):
        sampled_noise_multiplier(mu=1.0, share=0.5, sample_rate=sample_rate, steps=10)
