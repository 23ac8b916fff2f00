"""Poisson sampling of people: each person is sampled independently, as the accountant assumes.

Shuffling, fixed batch sizes and weighting do not belong here: amplification by sampling is charged
only for independent sampling (Balle, Barthe, Gaboardi, "Privacy amplification by subsampling",
2018).
"""

from __future__ import annotations

import numpy as np

from dagster_project.privacy.noise import SecureGenerator


def poisson_sample(n: int, *, sample_rate: float, generator: SecureGenerator) -> np.ndarray:
    """Draw a fresh Poisson sample of `n` people.

    Each person is in it with probability `sample_rate`, independently of all others, so its size
    varies and may be zero; a step on an empty sample still needs its noise. The size is private.

    Args:
        n: Number of people to draw from.
        sample_rate: Public inclusion probability in (0, 1], never computed from `n`.
        generator: The mechanism's source of randomness.

    Returns:
        Increasing indices, int64 (any number from 0 to `n`,).

    Raises:
        ValueError: `n` is negative or `sample_rate` is outside (0, 1].
    """
    if n < 0:
        raise ValueError(f"n must not be negative, not {n!r}")
    if isinstance(sample_rate, bool) or not 1e-9 <= sample_rate <= 1:
        raise ValueError(f"sample_rate must lie in (0, 1], not {sample_rate!r}")
    return np.flatnonzero(generator.bernoulli(n, p=sample_rate))
