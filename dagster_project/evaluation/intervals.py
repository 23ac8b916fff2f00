"""Bootstrap intervals: what a figure would have been with other held-out people (Efron 1979).

Every held-out person has one pair, so that people are resampled by weighting rows. The synthetic
pairs and the trained networks stay as they are. A figure is computed for all samples at once from
quantities stored for each row, so that nothing is trained or compared again.
"""

from __future__ import annotations

import numpy as np

SAMPLES = 200
LEVEL = 0.95
LEAST_FOR_VERDICT = 100  # people; with fewer, a share may be off by more than 10 points either way

Interval = tuple[float, float]


def resampling_weights(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of `n` people occurs in each sample, float32 (1 + SAMPLES, n).

    The first row is all ones, so that a figure is its own first draw.
    """
    drawn = rng.integers(n, size=(SAMPLES, n))
    counts = [np.ones(n), *(np.bincount(rows, minlength=n) for rows in drawn)]
    return np.stack(counts).astype(np.float32)


def interval(
    draws: np.ndarray, low: float = -np.inf, high: float = np.inf, *, people: int | None = None
) -> Interval | None:
    """Return the interval of a figure, or None if the samples do not provide one.

    It has the 2.5th and 97.5th percentiles of the samples, shifted so that their median is the
    figure: resampling adds noise, which moves distances and other figures that are not averages.

    Args:
        draws: The figure, then its value on every sample (1 + SAMPLES,).
        low, high: The figure's range, which the interval stays within.
        people: Number of people, for a share of people. If nobody or everybody counts, all samples
            agree although the people are few; the interval is then that of Clopper & Pearson 1934.
    """
    figure, samples = draws[0], draws[1:][np.isfinite(draws[1:])]
    if not np.isfinite(figure) or len(samples) < SAMPLES // 2:
        return None
    if np.ptp(samples) == 0:
        if people is None or figure not in (0, 1):
            return None
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / people)
        return (0.0, float(reach)) if figure == 0 else (float(1 - reach), 1.0)
    tail = (1 - LEVEL) / 2
    below, middle, above = np.quantile(samples, (tail, 0.5, 1 - tail))
    ends = np.clip((figure + below - middle, figure + above - middle), low, high)
    return float(ends[0]), float(ends[1])


def way_interval(floor: np.ndarray, value: np.ndarray, ceiling: np.ndarray) -> Interval | None:
    """Return the interval of the way from floor to ceiling, in [0, 1], from the draws of each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval((value - floor) / (ceiling - floor), 0, 1)


def known_mean(draws: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the mean over an axis without missing values; NaN where all are missing."""
    known = np.isfinite(draws)
    with np.errstate(invalid="ignore"):
        return np.where(known, draws, 0).sum(axis=axis) / known.sum(axis=axis)


def weighted_auc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve for every row of weights (B,); ties count one half.

    Args:
        positive: Whether each row is positive, bool (N,).
        scores: Scores (N,).
        weights: Weights of the rows (B, N); the AUC is NaN where only one class has weight.
    """
    order = np.argsort(scores, kind="stable")
    ranked, sign = scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    areas = []
    for block in np.array_split(weights, max(1, weights.size // _BLOCK)):
        rows = block[:, order].astype(np.float64)
        above, below = rows * sign, rows * ~sign
        if len(starts) < len(ranked):
            above, below = (np.add.reduceat(x, starts, axis=1) for x in (above, below))
        beaten = below.cumsum(axis=1) - below / 2
        with np.errstate(invalid="ignore"):
            pairs = above.sum(axis=1) * below.sum(axis=1)
            areas.append((above * beaten).sum(axis=1) / pairs)
    return np.concatenate(areas)


_BLOCK = 4_000_000  # weights held at once
