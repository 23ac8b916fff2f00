"""Empirical lower bound on epsilon from many runs on two neighbouring data sets.

Each Gaussian mechanism runs hundreds of thousands of times with and without one worst-case person.
Each run is reduced to its projection on the difference, the most powerful test of two Gaussians. A
claimed epsilon below the bound is false.

Runs are batched: one call of a mechanism on a thousand people in a thousand separate cells (or
coordinates) is a thousand runs on one person each, because their noise is independent.

References:
    Clopper and Pearson, "The use of confidence or fiducial limits", 1934.
    Nasr et al., "Adversary instantiation", 2021, section II (bounds on epsilon from error rates).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

from dagster_project.audits.faults import LessNoise, Training, dp_sgd
from dagster_project.audits.finding import Finding
from dagster_project.audits.sensitivities import MAP
from dagster_project.image.mean_pairs import CellSums
from dagster_project.privacy.calibration import calibrate
from dagster_project.privacy.events import DiscreteGaussian, Event, Gaussian
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.measurements import TableMeasurement

CLAIMED, DELTA, CONFIDENCE = 1.0, 1e-5, 0.95
_SIDE_BY_SIDE = 1000
_THRESHOLDS = 400
Make = Callable[[], SecureGenerator]
# (with the person?, noise, generator) -> projections of a thousand runs
Runs = Callable[[bool, float, Make], np.ndarray]


def lower_bound(
    with_person: np.ndarray, without: np.ndarray, *, delta: float, confidence: float = CONFIDENCE
) -> float:
    """Return a lower bound on epsilon from the projections of runs on two neighbours.

    The first quarter of the runs chooses the threshold and the direction, and the others are
    counted, so the bound holds with the given confidence for any choice.

    Args:
        with_person, without: (runs,) one number per run, larger if the person is in.
        delta: Delta of the claim.
    """
    cut = len(with_person) // 4, len(without) // 4
    # A test "the person is in" above a threshold, and its mirror image "the person is out" below.
    sides = [(with_person, without, cut), (-without, -with_person, cut[::-1])]
    guesses = []
    for yes, no, (yes_cut, no_cut) in sides:
        levels = np.quantile(no[:no_cut], np.linspace(0.5, 1, _THRESHOLDS, endpoint=False))
        values = [
            _counted(yes[:yes_cut], no[:no_cut], level, delta, confidence) for level in levels
        ]
        best = int(np.argmax(values))
        guesses.append((values[best], yes[yes_cut:], no[no_cut:], levels[best]))
    _, yes, no, level = max(guesses, key=lambda guess: guess[0])
    return _counted(yes, no, level, delta, confidence)


def _counted(
    yes: np.ndarray, no: np.ndarray, level: float, delta: float, confidence: float
) -> float:
    """Return log((true positive rate - delta) / false positive rate), both at their worst end."""
    hits, errors = int((yes > level).sum()), int((no > level).sum())
    tail = (1 - confidence) / 2
    lowest = stats.beta.ppf(tail, hits, len(yes) - hits + 1) if hits else 0.0
    highest = stats.beta.ppf(1 - tail, errors + 1, len(no) - errors) if errors < len(no) else 1.0
    return math.log((lowest - delta) / highest) if lowest > delta + highest else 0.0


def training_runs(with_person: bool, noise: float, generator: Make) -> np.ndarray:
    """Run one DP-SGD step; each person's gradient has four clip norms in a separate direction."""
    people = _SIDE_BY_SIDE if with_person else 0
    gradients = 4 * torch.eye(_SIDE_BY_SIDE)[:people]
    return Training(generator=generator).run(gradients, dp_sgd(noise_multiplier=noise))


def pairs_runs(with_person: bool, noise: float, generator: Make) -> np.ndarray:
    """Run the mean pairs' sums over two attributes, with each person in two separate cells."""
    people, image = (_SIDE_BY_SIDE if with_person else 0), np.full((1, 8, 8), 255, np.uint8)
    memberships = np.concatenate([np.eye(_SIDE_BY_SIDE, dtype=np.float32)] * 2, axis=1)
    sums = CellSums(noise_multiplier=noise, sample_rate=1.0, attributes=2).run(
        np.broadcast_to(image, (people, 1, 8, 8)),
        memberships[:people],
        MAP,
        generator=generator(),
    )
    feature = MAP(torch.ones(1, 1, MAP.height, MAP.width)).double().numpy()[0]
    along = sums @ (feature / np.linalg.norm(feature))
    return (along[:_SIDE_BY_SIDE] + along[_SIDE_BY_SIDE:]) / math.sqrt(2)


def table_runs(with_person: bool, noise: float, generator: Make) -> np.ndarray:
    """Run a marginal's measurement, with each person in a separate cell."""
    counts = np.full(_SIDE_BY_SIDE, int(with_person))
    mechanism = TableMeasurement(sigma=noise, marginals=1)
    measured = mechanism.run(counts, names=("a",), generator=generator())
    # Ties of integers would reduce the power of the test, so public randomness breaks them.
    return measured.values + np.random.default_rng().uniform(-0.5, 0.5, _SIDE_BY_SIDE)


MECHANISMS: dict[str, tuple[Runs, Callable[[float], Event]]] = {
    "DP-SGD step": (training_runs, lambda noise: Gaussian(noise_multiplier=noise)),
    "mean pairs": (pairs_runs, lambda noise: Gaussian(noise_multiplier=noise)),
    "table measurement": (table_runs, lambda noise: DiscreteGaussian(sigma=noise)),
}


def empirical_epsilon(mechanism: str, *, runs: int, generator: Make = SecureGenerator) -> float:
    """Return the bound for a mechanism that claims epsilon 1 at delta 1e-5, `runs` per side."""
    run, event = MECHANISMS[mechanism]
    noise = 1 / calibrate(
        lambda mu: [event(1 / mu)],
        target_epsilon=CLAIMED,
        target_delta=DELTA,
        discretization=1e-3,
    )
    calls = max(1, runs // _SIDE_BY_SIDE)
    sides = [
        np.concatenate([run(inside, noise, generator) for _ in range(calls)])
        for inside in (True, False)
    ]
    return lower_bound(*sides, delta=DELTA)


def audit_distinguishing(*, runs: int) -> list[Finding]:
    """Audit every Gaussian mechanism unchanged, and with half its noise, which must be seen."""
    findings = []
    for name in MECHANISMS:
        sound = empirical_epsilon(name, runs=runs)
        halved = empirical_epsilon(name, runs=runs, generator=LessNoise)
        findings.append(
            Finding(
                name=f"many runs of {name}",
                measured=f"epsilon at least {sound:.2f}; with half the noise {halved:.2f}",
                expected=f"at most the claimed {CLAIMED:g}; with half the noise above it",
                holds=sound <= CLAIMED < halved,
                size=f"{runs} runs on each side",
            )
        )
    return findings
