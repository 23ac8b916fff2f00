"""Membership attack on the bit patterns of released numbers.

The attacker knows everybody else's images, records and gradients. They read the numbers from the
files of a release, subtract what is known of the others, once with the target and once without,
and test which of the two residues looks more like noise in its last bits. Noise that was added in
floating point lies on a lattice at any scale, and integer noise is visible beside a contribution
that is not an integer. The noise here is so large that the ideal mechanism reveals almost nothing:
whatever an attack finds is in the bits.

Reference:
    Mironov, "On significance of the least significant bits for differential privacy", 2012.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from dagster_project.audits.faults import FloatNoise, Silent
from dagster_project.audits.finding import Finding
from dagster_project.audits.lattice_toys import (
    MULTIPLIER,
    Read,
    Toy,
    pairs_forms,
    query_toy,
    training_toy,
)
from dagster_project.privacy.grid import UNITS
from dagster_project.privacy.noise import SecureGenerator

# Chance exceeds it once in 1.7 million attacks.
_DEVIATIONS = 5.0

# Patterns: (residue, largest float behind each number, noise) -> score, which is the smaller the
# more the residue looks like pure noise.


def noise_lattice(residue: np.ndarray, largest: np.ndarray, noise: float) -> float:
    """Return distances to the lattice of scaled float64 sums of normal variables, minus chance.

    Such a sum of variance 4 is (nearly) a multiple of 2^-53 before it is scaled. Only small numbers
    show it: floats near a large number are as coarse as the lattice.
    """
    steps = residue[largest < noise / 8] * (2 / noise) * 2.0**53
    return float((abs(steps - np.rint(steps)) - 0.25).sum())


def grid(residue: np.ndarray, largest: np.ndarray, noise: float) -> float:
    """Return distances to the grid of 2^-24."""
    steps = residue * UNITS
    return float(abs(steps - np.rint(steps)).sum())


def last_bits(residue: np.ndarray, largest: np.ndarray, noise: float) -> float:
    """Return minus the number of trailing zero bits of the significands."""
    significand = abs(np.ldexp(np.frexp(residue)[0], 53)).astype(np.int64)
    return -float(np.log2(np.maximum(significand & -significand, 1)).sum())


def length(residue: np.ndarray, largest: np.ndarray, noise: float) -> float:
    """Return the squared norm, the best attack on the ideal mechanism."""
    return float(np.square(residue / noise).sum())


PATTERNS = (noise_lattice, grid, last_bits, length)


def attack(
    toy: Toy, *, releases: int, generator: Callable[[], SecureGenerator] = SecureGenerator
) -> dict[str, float]:
    """Return the AUC of each pattern over `releases` with the target and as many without."""
    known = [toy.numbers(inside, Silent())[0] for inside in (False, True)]
    without, with_target = (
        np.array([_scores(toy, toy.numbers(inside, generator()), known) for _ in range(releases)])
        for inside in (False, True)
    )
    return {
        pattern.__name__: float(stats.mannwhitneyu(more, less).statistic) / releases**2
        for pattern, more, less in zip(PATTERNS, with_target.T, without.T, strict=True)
    }


def _scores(toy: Toy, released: Read, known: Sequence[np.ndarray]) -> list[float]:
    """Return by how much more the numbers look like noise without the target, for each pattern."""
    numbers, largest = released
    usable = np.isfinite(numbers + known[0] + known[1]) & (known[0] != known[1])
    others, everybody = (numbers[usable] - part[usable] for part in known)
    return [
        pattern(others, largest[usable], toy.noise) - pattern(everybody, largest[usable], toy.noise)
        for pattern in PATTERNS
    ]


def allowed(releases: int) -> float:
    """Return how far the AUC may differ from 1/2 for the ideal mechanism and by chance.

    The Gaussian mechanism allows Phi(mu / sqrt 2) with mu = 1 / multiplier.
    """
    ideal = float(stats.norm.cdf(1 / MULTIPLIER / math.sqrt(2))) - 0.5
    return ideal + _DEVIATIONS * math.sqrt((2 * releases + 1) / (12 * releases**2))


def farthest(found: Mapping[str, float]) -> float:
    """Return the AUC that is farthest from 1/2."""
    return max(found.values(), key=lambda auc: abs(auc - 0.5))


def audit_lattice(*, releases: int, every: bool) -> list[Finding]:
    """Attack each toy release unchanged, and with planted faults, which must be seen.

    Args:
        releases: Releases on each side of an attack.
        every: Whether to attack mean pairs in all their forms, or in two.
    """
    # With more cells, making the totals consistent hides less.
    forms = [
        pairs_forms((2, 3), consistent=False, counted=True),
        pairs_forms((6, 8), consistent=True, counted=False),
    ]
    if every:
        forms += [
            pairs_forms((2, 3), consistent=False, counted=False),
            pairs_forms((6, 8), consistent=True, counted=True),
        ]
    most, findings = allowed(releases), []
    for toy, off_grid in [*forms, (query_toy(), None), (training_toy(), None)]:
        sound = farthest(attack(toy, releases=releases))
        planted = {"float noise": attack(toy, releases=releases, generator=FloatNoise)}
        if off_grid:
            planted["features off the grid"] = attack(off_grid, releases=releases)
        wrong = {name: farthest(found) for name, found in planted.items()}
        findings.append(
            Finding(
                name=f"last bits of {toy.name}",
                measured=f"AUC {sound:.2f}; "
                + ", ".join(f"with {name} {auc:.3f}" for name, auc in wrong.items()),
                expected=f"within {most:.2f} of 1/2; each fault beyond",
                holds=abs(sound - 0.5) <= most < min(abs(auc - 0.5) for auc in wrong.values()),
                size=f"{releases} releases with the target and {releases} without, "
                f"{len(PATTERNS)} patterns",
            )
        )
    return findings
