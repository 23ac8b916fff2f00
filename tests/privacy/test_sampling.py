"""Poisson sampling: every person is sampled independently, every time.

A test passes if one of two independent trials has p > 1e-4: a correct sampler fails once in 1e8.
Shuffled or fixed-size batches always fail.
"""

import math

import numpy as np
import pytest
from scipy import stats

from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.sampling import poisson_sample

PEOPLE, ROUNDS, RATE = 200, 2000, 0.1


def inclusion() -> np.ndarray:
    """Who was in which sample, bool (ROUNDS, PEOPLE)."""
    generator = SecureGenerator()
    table = np.zeros((ROUNDS, PEOPLE), dtype=bool)
    for row in table:
        row[poisson_sample(PEOPLE, sample_rate=RATE, generator=generator)] = True
    return table


def two_sided(statistic: float, freedom: int) -> float:
    return 2 * min(stats.chi2.sf(statistic, freedom), stats.chi2.cdf(statistic, freedom))


def people_are_equal(table: np.ndarray) -> float:
    counts = table.sum(axis=0)
    statistic = ((counts - ROUNDS * RATE) ** 2).sum() / (ROUNDS * RATE * (1 - RATE))
    return two_sided(statistic, PEOPLE)


def sizes_are_binomial(table: np.ndarray) -> float:
    sizes = table.sum(axis=1)
    statistic = ((sizes - PEOPLE * RATE) ** 2).sum() / (PEOPLE * RATE * (1 - RATE))
    return two_sided(statistic, ROUNDS)


def people_are_independent(table: np.ndarray) -> float:
    both = table[:, 0::2] & table[:, 1::2]
    return stats.binomtest(int(both.sum()), both.size, RATE**2).pvalue


def rounds_are_independent(table: np.ndarray) -> float:
    both = table[0::2] & table[1::2]
    return stats.binomtest(int(both.sum()), both.size, RATE**2).pvalue


CHECKS = [people_are_equal, sizes_are_binomial, people_are_independent, rounds_are_independent]


@pytest.fixture(scope="module")
def trials():
    return inclusion(), inclusion()


@pytest.mark.parametrize("check", CHECKS)
def test_coins_are_independent(trials, check):
    assert max(check(table) for table in trials) > 1e-4


def test_the_checks_notice_shuffled_batches():
    rng = np.random.default_rng(0)
    table = np.zeros((ROUNDS, PEOPLE), dtype=bool)
    size = int(PEOPLE * RATE)
    for start in range(0, ROUNDS, PEOPLE // size):
        for row, batch in enumerate(rng.permutation(PEOPLE).reshape(-1, size), start):
            table[row, batch] = True
    assert sizes_are_binomial(table) < 1e-8
    assert rounds_are_independent(table) < 1e-8


def test_samples_are_indices_without_repetition():
    sample = poisson_sample(1000, sample_rate=0.5, generator=SecureGenerator())
    assert np.issubdtype(sample.dtype, np.integer)
    assert (np.diff(sample) > 0).all()
    assert sample.min() >= 0
    assert sample.max() < 1000


def test_extremes():
    generator = SecureGenerator()
    everyone = poisson_sample(70_000, sample_rate=1.0, generator=generator)
    assert np.array_equal(everyone, np.arange(70_000))
    assert poisson_sample(0, sample_rate=0.5, generator=generator).size == 0
    assert poisson_sample(10, sample_rate=1e-9, generator=generator).size == 0


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, math.nan, True])
def test_refuses_a_rate_outside_zero_to_one(rate):
    with pytest.raises(ValueError, match="sample_rate"):
        poisson_sample(10, sample_rate=rate, generator=SecureGenerator())


def test_refuses_a_negative_number_of_people():
    with pytest.raises(ValueError, match="n must"):
        poisson_sample(-1, sample_rate=0.5, generator=SecureGenerator())
