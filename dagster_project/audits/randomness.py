"""Audit of the randomness: scale and freshness of the noise, independence of the sampling.

Everything is tried twice, and fails if both trials do: beyond a 99.9 % interval for a scale, at
p <= 1e-4 for the sampler. Sound code fails once in a million runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

from dagster_project.audits.faults import Training, dp_sgd
from dagster_project.audits.finding import Finding
from dagster_project.audits.sensitivities import MAP
from dagster_project.image.mean_pairs import CellSums
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.measurements import TableMeasurement

DRAWS = 200_000
LEVEL = 1e-4
Make = Callable[[], SecureGenerator]


def training_noise(training: Training, draws: int = DRAWS) -> np.ndarray:
    """Return the noise of one DP-SGD step on nobody, divided by the declared scale."""
    empty = torch.zeros(0, draws, dtype=torch.float64)
    declared = dp_sgd(noise_multiplier=1.7, max_grad_norm=0.3)
    return training.run(empty, declared) / (1.7 * 0.3)


def pairs_noise(generator: Make = SecureGenerator, draws: int = DRAWS) -> np.ndarray:
    """Return the noise of the mean pairs' sums on nobody, divided by the declared scale."""
    cells = math.ceil(draws / MAP.size)
    mechanism = CellSums(noise_multiplier=2.5, sample_rate=1.0, attributes=3)
    sums = mechanism.run(
        np.zeros((0, 1, 8, 8), dtype=np.uint8),
        np.zeros((0, cells), dtype=np.float32),
        MAP,
        generator=generator(),
    )
    return sums.reshape(-1)[:draws] / (2.5 * math.sqrt(3))


def table_noise(generator: Make = SecureGenerator, draws: int = DRAWS) -> np.ndarray:
    """Return the noise of a marginal of empty cells, divided by the declared scale."""
    counts = np.zeros(draws, dtype=np.int64)
    mechanism = TableMeasurement(sigma=30.0, marginals=1)
    return mechanism.run(counts, names=("a",), generator=generator()).values / 30.0


def scale_error(noise: np.ndarray) -> float:
    """Return the relative deviation of the root mean square from 1."""
    return abs(float(np.sqrt(np.mean(np.square(noise)))) - 1)


def scale_bound(draws: int) -> float:
    """Return half the 99.9 % interval of `scale_error`: .52 % at 200,000 draws."""
    return float(stats.norm.ppf(1 - 0.001 / 2)) / math.sqrt(2 * draws)


def repeats(noise: Callable[[], np.ndarray]) -> int:
    """Count the values that are equal at the same position in two runs on the same data."""
    return int((noise() == noise()).sum())


def inclusion(training: Training, *, people: int, rounds: int, rate: float) -> np.ndarray:
    """Return who was in which sample, bool (rounds, people)."""
    secure, table = training.generator(), np.zeros((rounds, people), dtype=bool)
    for row in table:
        row[training.sample(people, sample_rate=rate, generator=secure)] = True
    return table


def sampler_p_values(table: np.ndarray, rate: float) -> dict[str, float]:
    """Return p-values under the hypothesis of independent sampling at the declared rate."""
    rounds, people = table.shape
    by_person = ((table.sum(axis=0) - rounds * rate) ** 2).sum() / (rounds * rate * (1 - rate))
    by_round = ((table.sum(axis=1) - people * rate) ** 2).sum() / (people * rate * (1 - rate))
    pairs, next_round = table[:, 0::2] & table[:, 1::2], table[0::2] & table[1::2]
    return {
        "inclusion of each person": _two_sided(by_person, people),
        "sizes of the samples": _two_sided(by_round, rounds),
        "pairs of people": float(stats.binomtest(int(pairs.sum()), pairs.size, rate**2).pvalue),
        "pairs of steps": float(
            stats.binomtest(int(next_round.sum()), next_round.size, rate**2).pvalue
        ),
    }


def _two_sided(statistic: float, freedom: int) -> float:
    tails = stats.chi2.sf(statistic, freedom), stats.chi2.cdf(statistic, freedom)
    return float(min(1.0, 2 * min(tails)))


def sampler_check(training: Training, *, rounds: int) -> tuple[str, float]:
    """Return the sampler's least likely statistic and its p-value, the better of two trials."""
    trials = [
        sampler_p_values(inclusion(training, people=200, rounds=rounds, rate=0.1), 0.1)
        for _ in range(2)
    ]
    best = {name: max(trial[name] for trial in trials) for name in trials[0]}
    worst = min(best, key=lambda name: best[name])
    return worst, best[worst]


def audit_randomness(*, rounds: int) -> list[Finding]:
    """Audit the scale and freshness of each noise, and the sampler over `rounds` samples."""
    noises: dict[str, Callable[[], np.ndarray]] = {
        "DP-SGD": lambda: training_noise(Training()),
        "mean pairs": pairs_noise,
        "table": table_noise,
    }
    findings, bound = [], scale_bound(DRAWS)
    for name, noise in noises.items():
        errors = [scale_error(noise()) for _ in range(2)]
        findings.append(
            Finding(
                name=f"noise scale of {name}",
                measured=f"{min(errors):.3%} off the declared scale",
                expected=f"at most {bound:.2%}",
                holds=min(errors) <= bound,
                size=f"{DRAWS} draws, twice",
            )
        )
    same = {name: repeats(noises[name]) for name in ("DP-SGD", "mean pairs")}
    # Integer noise of scale 30 repeats by chance at one position in 106.
    same["table"] = max(0, repeats(table_noise) - DRAWS // 50)
    findings.append(
        Finding(
            name="noise is fresh",
            measured=f"{sum(same.values())} repeated",
            expected="0 repeated",
            holds=not any(same.values()),
            size=f"{DRAWS} draws of each of {len(same)} mechanisms",
        )
    )
    name, p = sampler_check(Training(), rounds=rounds)
    findings.append(
        Finding(
            name="Poisson sampling",
            measured=f"p = {p:.2g} ({name})",
            expected=f"p above {LEVEL:g}",
            holds=p > LEVEL,
            size=f"{rounds} samples of 200 people, twice",
        )
    )
    return findings
