"""Empirical lower bound on epsilon from one training run with randomly included canaries.

Each canary is a person whose gradient points along a separate axis (a Dirac vector) and is longer
than the clip norm. DP-SGD runs unchanged, with real sampling, clipping and noise. The released
parameters are then used to guess who was in; more right guesses than epsilon allows refute it.

Groups of a thousand canaries, each with a run on its own people, are together one run of a
mechanism with the same guarantee (parallel composition), and give a sharper bound.

Reference: Steinke, Nasr, Jagielski, "Privacy auditing with one (1) training run", 2023,
theorem 5.2 (the bound) and section 6 (Dirac canaries).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats

from dagster_project.audits.faults import QuarterNoise, Training, Unclipped, doubled_sample, dp_sgd
from dagster_project.audits.finding import Finding
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.privacy.accounting import epsilon

CANARIES, LENGTH = 1000, 4.0
DELTA, CONFIDENCE = 1e-6, 0.95
LOOP = dp_sgd(noise_multiplier=4.0, sample_rate=0.5, steps=25, expected_batch_size=500.0)
FAULTS = {
    "quarter noise": Training(generator=QuarterNoise),
    "lost clip": Training(optimizer=Unclipped),
    "doubled rate": Training(sample=doubled_sample),
}


def claimed_epsilon(loop: DPSGD = LOOP) -> float:
    """Return the accountant's epsilon of the declared run."""
    return epsilon([loop.event()], target_delta=DELTA)


def p_value(*, canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Bound the probability of `right` right guesses under (epsilon, delta)-DP (theorem 5.2).

    P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i, where W is binomial: each guess is right
    with probability at most e^epsilon / (1 + e^epsilon).
    """
    if right == 0:
        return 1.0
    coin = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    distance = np.arange(1, right + 1)
    below = coin.cdf(right - 1) - coin.cdf(right - 1 - distance)
    return float(min(1.0, coin.sf(right - 1) + 2 * canaries * delta * (below / distance).max()))


def lower_bound(*, canaries: int, guesses: int, right: int, delta: float) -> float:
    """Return the largest epsilon that the guesses refute at the confidence of this audit."""

    def refuted(value: float) -> bool:
        p = p_value(canaries=canaries, guesses=guesses, right=right, epsilon=value, delta=delta)
        return p < 1 - CONFIDENCE

    low, high = 0.0, 50.0
    if not refuted(low):
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def empirical_epsilon(
    training: Training, *, groups: int, guessed: float, loop: DPSGD = LOOP
) -> float:
    """Return the lower bound from one run of `groups` thousand canaries.

    Args:
        guessed: Fraction of canaries guessed to be in, and the same to be out; fixed beforehand.
    """
    coins, scores = [], []
    axes = LENGTH * loop.max_grad_norm * torch.eye(CANARIES)
    for _ in range(groups):
        inside = training.generator().bernoulli(CANARIES, p=0.5)
        scores.append(training.run(axes[torch.from_numpy(inside)], loop))
        coins.append(inside)
    inside, order = np.concatenate(coins), np.argsort(np.concatenate(scores))
    k = int(len(inside) * guessed)
    right = int(inside[order[-k:]].sum() + (~inside[order[:k]]).sum())
    return lower_bound(canaries=len(inside), guesses=2 * k, right=right, delta=DELTA)


def audit_one_run(*, groups: int) -> list[Finding]:
    """Audit one run of 2,000 canaries and one of `groups` thousand (0 for none), with faults."""
    claimed = claimed_epsilon()
    findings: list[Finding] = []
    # Fewer canaries need a larger fraction of guesses for a tight binomial.
    rounds: list[tuple[int, float, tuple[str, ...]]] = [(2, 0.1, ("quarter noise", "lost clip"))]
    if groups:
        rounds.append((groups, 0.01, tuple(FAULTS)))
    for many, guessed, seen in rounds:
        sound = empirical_epsilon(Training(), groups=many, guessed=guessed)
        wrong = {
            name: empirical_epsilon(FAULTS[name], groups=many, guessed=guessed) for name in seen
        }
        shown = ", ".join(f"{name} {value:.2f}" for name, value in wrong.items())
        findings.append(
            Finding(
                name=f"one run of DP-SGD, {many * CANARIES} canaries",
                measured=f"epsilon at least {sound:.2f}; {shown}",
                expected=f"at most the claimed {claimed:.2f}; each fault above it",
                holds=sound <= claimed < min(wrong.values()),
                size=f"{many * CANARIES} Dirac canaries, {LOOP.steps} steps",
            )
        )
    return findings
