"""Noise: right distributions, no seed, no repetition.

Statistical tests pass if one of two independent trials does: a correct source fails a threshold of
1e-3 about once in a million runs, while a wrong one (half the noise, a lost summand) always does.
"""

import copy
import inspect
import math
import os
import pickle
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from dagster_project.privacy import noise
from dagster_project.privacy.noise import _CHUNK, SecureGenerator

N = 200_000
NOT_POSITIVE = [0.0, -1.0, math.nan, math.inf, 5e-324, True]


@pytest.fixture
def generator():
    return SecureGenerator()


@pytest.mark.parametrize("sigma", [20.0, 1234.5, 2.0**28, 2.0**44])
def test_gaussian_scale(generator, sigma):
    def deviation():
        return abs(generator.rounded_gaussian(N, sigma=sigma).std() / sigma - 1)

    assert min(deviation() for _ in range(2)) < 0.0052  # 99.9 % interval for 200,000 draws


@pytest.mark.parametrize("sigma", [0.3, 0.4, 1.0, 3.3, 25.0, 400.5])
def test_rounded_gaussian_probabilities(generator, sigma):
    reach = math.ceil(12 * sigma)
    edges = np.arange(-reach, reach + 2) - 0.5
    mass = np.diff(stats.norm.cdf(edges / sigma))

    def p_value():
        draws = generator.rounded_gaussian(N, sigma=sigma)
        assert draws.dtype == np.int64
        assert abs(draws).max() <= reach
        observed = np.bincount(draws + reach, minlength=mass.size)
        return chi_square(observed, N * mass)

    assert max(p_value() for _ in range(2)) > 1e-3


def test_gaussian_shape_of_the_distribution(generator):
    def p_values():
        draws = generator.rounded_gaussian(N, sigma=2.0**28) / 2.0**28
        kurtosis = stats.kurtosis(draws) / math.sqrt(24 / N)
        mean = draws.mean() * math.sqrt(N)
        tails = stats.binomtest(int((abs(draws) > 3).sum()), N, 2 * stats.norm.sf(3)).pvalue
        return min(
            stats.kstest(draws, "norm").pvalue,
            2 * stats.norm.sf(abs(kurtosis)),
            2 * stats.norm.sf(abs(mean)),
            tails,
        )

    assert max(p_values() for _ in range(2)) > 2e-4


@pytest.mark.parametrize("lag", [1, 2, _CHUNK // 2, _CHUNK])
def test_gaussian_draws_are_independent(generator, lag):
    def p_value():
        draws = generator.rounded_gaussian(4 * _CHUNK, sigma=2.0**28) / 2.0**28
        first, second = draws[:-lag], draws[lag:]
        root = math.sqrt(first.size)
        linear = np.mean(first * second) * root
        radial = np.mean((first**2 - 1) * (second**2 - 1)) / 2 * root
        return 2 * min(stats.norm.sf(abs(linear)), stats.norm.sf(abs(radial)))

    assert max(p_value() for _ in range(2)) > 5e-4


@pytest.mark.parametrize("size", [0, 1, 2, 3, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK + 7])
def test_every_element_is_drawn(generator, size):
    draws = generator.rounded_gaussian(size, sigma=2.0**44)
    assert draws.shape == (size,)
    assert np.unique(draws).size == size
    assert np.unique(generator.uniform_bits(size)).size == size


def test_shapes(generator):
    assert generator.rounded_gaussian((), sigma=1.0).shape == ()
    assert generator.rounded_gaussian((2, 0, 3), sigma=1.0).shape == (2, 0, 3)
    assert generator.discrete_gaussian((2, 5), sigma=3.0).shape == (2, 5)


def test_draws_never_repeat(generator):
    sources = (generator, generator, SecureGenerator())
    draws = [source.rounded_gaussian(N, sigma=2.0**44) for source in sources]
    assert np.unique(np.concatenate(draws)).size == 3 * N


def test_a_forked_process_draws_something_else(generator):
    generator.uniform_bits(1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, generator.uniform_bits(4).tobytes())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 32)
    os.close(read)
    os.close(write)
    assert len(theirs) == 32
    assert theirs != generator.uniform_bits(4).tobytes()


def test_nothing_takes_a_seed():
    assert not inspect.signature(SecureGenerator).parameters
    for name, method in inspect.getmembers(SecureGenerator, inspect.isfunction):
        assert not {"seed", "key", "generator"} & set(inspect.signature(method).parameters), name


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_cannot_be_copied(generator, copying):
    with pytest.raises(TypeError, match="repeat"):
        copying(generator)


@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_refuses_parameters_that_are_not_positive_and_finite(generator, value):
    with pytest.raises(ValueError, match="sigma"):
        generator.rounded_gaussian(3, sigma=value)
    with pytest.raises(ValueError, match="sigma"):
        generator.discrete_gaussian(3, sigma=value)
    with pytest.raises(ValueError, match="epsilon"):
        generator.exponential_mechanism([1.0], epsilon=value, sensitivity=1.0)
    with pytest.raises(ValueError, match="sensitivity"):
        generator.exponential_mechanism([1.0], epsilon=1.0, sensitivity=value)


def test_privacy_parameters_are_keyword_only(generator):
    for call in (
        lambda: generator.rounded_gaussian(3, 1.0),
        lambda: generator.discrete_gaussian(3, 1.0),
        lambda: generator.bernoulli(3, 0.5),
        lambda: generator.exponential_mechanism([1.0], 1.0, 1.0),
    ):
        with pytest.raises(TypeError):
            call()


def chi_square(observed, expected):
    """p-value, with cells that expect fewer than five pooled at the end."""
    order = np.argsort(-expected)
    observed, expected = observed[order], expected[order]
    kept = int((expected >= 5).sum())
    observed = np.append(observed[:kept], observed[kept:].sum())
    expected = np.append(expected[:kept], expected[kept:].sum())
    if expected[-1] < 5:
        observed = np.append(observed[:-2], observed[-2:].sum())
        expected = np.append(expected[:-2], expected[-2:].sum())
    return stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.3, 25.0, 400.5])
def test_discrete_gaussian_probabilities(generator, sigma):
    reach = math.ceil(12 * sigma)
    support = np.arange(-reach, reach + 1)
    mass = np.exp(-(support**2) / (2 * sigma**2))

    def p_value():
        draws = generator.discrete_gaussian(N, sigma=sigma)
        assert draws.dtype == np.int64
        assert abs(draws).max() <= reach
        observed = np.bincount(draws + reach, minlength=support.size)
        return chi_square(observed, N * mass / mass.sum())

    assert max(p_value() for _ in range(2)) > 1e-3


def test_every_decision_made_exactly_gives_the_same_draws(generator, monkeypatch):
    """The exact path decides what float64 decides, from the same digits, and goes on where it
    cannot: here it decides everything."""
    words = generator.uniform_bits(20_000)

    def draws(slack):
        source, given = SecureGenerator(), iter(words)
        monkeypatch.setattr(noise, "_SLACK", slack)
        monkeypatch.setattr(
            source, "uniform_bits", lambda n: np.array([next(given) for _ in range(n)], np.uint64)
        )
        gamma = np.linspace(0, 3, 200)
        coins = source._exponential_coins(gamma, lambda i: Fraction(gamma[i]))
        gaussians = source._rounded_gaussians(300, 1000.5)
        return coins.tolist(), gaussians.tolist()

    everything = draws(10.0)
    assert everything == draws(2.0**-46)
    assert len(everything[1]) > 100


def test_gaussians_whose_rounding_floats_cannot_tell(generator):
    """At this scale the 53 digits of a fraction leave the nearest integer open for most draws."""
    draws = generator.rounded_gaussian(3000, sigma=2.0**44)
    assert np.bincount(draws % 4, minlength=4).min() > 600  # the last bits are not stuck
    assert 0.95 < draws.std() / 2.0**44 < 1.05


def test_discrete_gaussian_probabilities_decided_exactly(generator, monkeypatch):
    monkeypatch.setattr(noise, "_SLACK", 10.0)
    draws = generator.discrete_gaussian(3000, sigma=1.5)
    support = np.arange(-12, 13)
    mass = np.exp(-(support**2) / 4.5)
    observed = np.bincount(draws + 12, minlength=25)
    assert chi_square(observed, 3000 * mass / mass.sum()) > 1e-6


def test_coins_compare_all_digits_of_their_probability(generator, monkeypatch):
    """A uniform number of 2^-53 (1 + 2^-53 (1 + ...)): its first 53 digits are those of 2^-53."""
    monkeypatch.setattr(generator, "uniform_bits", lambda n: np.full(n, 1 << 11, np.uint64))
    assert not generator.bernoulli(3, p=2.0**-53).any()
    assert generator.bernoulli(3, p=2.0**-53 + 2.0**-100).all()
    assert generator.bernoulli(3, p=2.0**-52).all()


def test_what_ran_is_noted(generator):
    generator.rounded_gaussian(5, sigma=2.5)
    generator.rounded_gaussian(7, sigma=2.5)
    generator.discrete_gaussian(3, sigma=4.0)
    generator.bernoulli(10, p=0.25)
    generator.exponential_mechanism([1.0, 2.0], epsilon=0.5, sensitivity=2.0)
    assert generator.uses[("gaussian", 2.5)] == 2
    assert generator.uses[("discrete_gaussian", 4.0)] == 1
    assert generator.uses[("coins", 0.25)] == 1
    assert generator.uses[("exponential", 0.25)] == 1


def test_discrete_gaussian_at_the_extremes(generator):
    assert not generator.discrete_gaussian(1000, sigma=1e-9).any()
    wide = generator.discrete_gaussian(10_000, sigma=2.0**40)
    assert 0.9 < wide.std() / 2.0**40 < 1.1
    with pytest.raises(ValueError, match="sigma"):
        generator.discrete_gaussian(1, sigma=2.0**45)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_exponential_mechanism_frequencies(generator, epsilon):
    scores = np.array([3.0, -1.0, 0.5, 3.0, 2.0])
    weights = np.exp(epsilon * scores / (2 * 1.5))

    def p_value():
        picks = [
            generator.exponential_mechanism(scores, epsilon=epsilon, sensitivity=1.5)
            for _ in range(3000)
        ]
        return chi_square(np.bincount(picks, minlength=5), 3000 * weights / weights.sum())

    assert max(p_value() for _ in range(2)) > 1e-3


def test_exponential_mechanism_at_the_extremes(generator):
    choose = generator.exponential_mechanism
    assert choose([5.0], epsilon=1.0, sensitivity=1.0) == 0
    assert choose([0.0] * 5000 + [1e300], epsilon=1.0, sensitivity=1.0) == 5000
    assert choose([-1e300, -1.0], epsilon=1.0, sensitivity=1.0) == 1
    for scores in ([], [math.nan], [math.inf, 1.0], [[1.0]], 1.0):
        with pytest.raises(ValueError, match="scores"):
            choose(scores, epsilon=1.0, sensitivity=1.0)


def test_integers_are_uniform(generator):
    for high in (1, 2, 3, 7, 100):
        observed = np.bincount(generator.integers(50_000, high), minlength=high)
        assert observed.size == high
        assert high == 1 or stats.chisquare(observed).pvalue > 1e-8
    # Modulo bias would put 2/3 of the draws into the lower half.
    high = 2**62 - 2**60
    below = int((generator.integers(20_000, high) < high // 2).sum())
    assert stats.binomtest(below, 20_000, 0.5).pvalue > 1e-8
    for high in (0, -1, 2**63):
        with pytest.raises(ValueError, match="high"):
            generator.integers(1, high)


def test_coins(generator):
    for p in (0.001, 0.3, 0.999):
        heads = int(generator.bernoulli(N, p=p).sum())
        assert stats.binomtest(heads, N, p).pvalue > 1e-8
    assert not generator.bernoulli(1000, p=0.0).any()
    assert generator.bernoulli(1000, p=1.0).all()
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="p must"):
            generator.bernoulli(1, p=p)
