"""Correlation between records and image features, real against synthetic.

Three metrics show whether the synthetic images depend on the synthetic records as the real ones do:
the matrix of Pearson correlations (linear, cell by component), the correlation ratio of each
attribute (Fisher's η²), and the distance correlation (Székely & Rizzo 2014), which is zero only for
independence. Metrics that train a network are in `predictors` and `alignment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagster_project.data.schema import Schema
from dagster_project.evaluation.intervals import (
    Interval,
    interval,
    resampling_weights,
    way_interval,
)

_COMPONENTS = 16
_DISTANCE_ROWS = 1000
_CONSTANT = 1e-9  # product of standard deviations below which nothing varies


@dataclass(frozen=True)
class CorrelationScores:
    """Agreement of the record-image correlations.

    Attributes:
        gap: Mean absolute difference between the real and the synthetic matrix of correlations
            (record cells x leading components of the real features); 0 is best.
        gap_real: The same between two real samples, which shows the effect of sampling.
        gap_shuffled: The same with shuffled synthetic records, which are unrelated to the images.
        eta_squared: (real, synthetic) share of the features' variance explained by each attribute.
        distance_correlation: (real, synthetic), squared and bias-corrected; about 0 when images
            and records are independent, at most 1.
        gap_interval: Interval of `gap` over the held-out people (`intervals`).
        gap_way: Interval of the way from `gap_shuffled` to `gap_real`.
    """

    gap: float
    gap_real: float
    gap_shuffled: float
    eta_squared: dict[str, tuple[float, float]]
    distance_correlation: tuple[float, float]
    gap_interval: Interval | None
    gap_way: Interval | None


def correlation_scores(
    real: tuple[np.ndarray, np.ndarray],
    reference: tuple[np.ndarray, np.ndarray],
    synthetic: tuple[np.ndarray, np.ndarray],
    schema: Schema,
    rng: np.random.Generator,
) -> CorrelationScores:
    """Compare the correlations of three samples, each given as (features (N, F), codes (N, d)).

    Args:
        real: Held-out real pairs, from which the components are computed.
        reference: Other real pairs, to show the effect of sampling.
        synthetic: Synthetic pairs.
        schema: The schema of the codes.
        rng: Public randomness (shuffling, sub-sampling, samples of people).
    """
    mean, basis = _components(real[0])

    def project(sample: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return (sample[0] - mean) @ basis, schema.one_hot(sample[1])

    (real_z, real_hot), (synthetic_z, synthetic_hot) = project(real), project(synthetic)
    weights = resampling_weights(len(real_z), rng)
    targets = _weighted_correlations(real_z, real_hot, weights)
    # A cell too rare in the real sample has no reliable correlation to compare with.
    known = real_hot.sum(axis=0) >= 10

    def gap(z: np.ndarray, hot: np.ndarray) -> np.ndarray:
        found = _weighted_correlations(z, hot, np.ones((1, len(z))))
        return np.abs(found - targets)[:, known].mean(axis=(1, 2))

    synthetic_gap, real_gap = gap(synthetic_z, synthetic_hot), gap(*project(reference))
    shuffled_gap = gap(synthetic_z, rng.permutation(synthetic_hot))
    return CorrelationScores(
        gap=float(synthetic_gap[0]),
        gap_real=float(real_gap[0]),
        gap_shuffled=float(shuffled_gap[0]),
        gap_interval=interval(synthetic_gap, 0),
        gap_way=way_interval(shuffled_gap, synthetic_gap, real_gap),
        eta_squared={
            a.name: (
                eta_squared(real_z, real[1][:, i], a.size),
                eta_squared(synthetic_z, synthetic[1][:, i], a.size),
            )
            for i, a in enumerate(schema.attributes)
        },
        distance_correlation=(
            distance_correlation(real_z, real_hot, rng),
            distance_correlation(synthetic_z, synthetic_hot, rng),
        ),
    )


def eta_squared(features: np.ndarray, codes: np.ndarray, size: int) -> float:
    """Return the share in [0, 1] of the variance of `features` (N, F) that is between cells."""
    hot = np.eye(size)[np.asarray(codes, dtype=np.int64)]
    counts = hot.sum(axis=0)
    centred = features - features.mean(axis=0)
    sums = hot.T @ centred
    between = (np.square(sums).sum(axis=1) / counts.clip(1)).sum()
    total = np.square(centred).sum()
    return float(between / total) if total > 0 else 0.0


def distance_correlation(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """Return the bias-corrected squared distance correlation of x (N, p) and y (N, q).

    This follows Székely & Rizzo 2014, with U-centred Euclidean distance matrices (N >= 4), on at
    most 1,000 rows drawn with `rng`. It may be slightly negative for independent samples.
    """
    if len(x) > _DISTANCE_ROWS:
        rows = rng.choice(len(x), _DISTANCE_ROWS, replace=False)
        x, y = x[rows], y[rows]
    a, b = _u_centred(x), _u_centred(y)
    scale = np.sqrt(np.square(a).sum() * np.square(b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _components(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (F,) and the leading principal directions (F, <= 16)."""
    mean = features.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(np.atleast_2d(np.cov(features, rowvar=False, dtype=np.float64)))
    return mean, vectors[:, ::-1][:, :_COMPONENTS]


def _weighted_correlations(z: np.ndarray, hot: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return Pearson correlations of rows weighted by (B, N), (B, cells, components).

    They are 0 where one of the two is constant.
    """
    z, hot = z - z.mean(axis=0), hot.astype(np.float64)
    shares = weights / weights.sum(axis=1, keepdims=True, dtype=np.float64)
    centre, spread = shares @ z, shares @ np.square(z)
    cells = shares @ hot
    products = np.stack([(shares * column) @ hot for column in z.T], axis=2)
    covariance = products - cells[:, :, None] * centre[:, None, :]
    variance = (cells * (1 - cells))[:, :, None] * (spread - np.square(centre))[:, None, :]
    scale = np.sqrt(variance.clip(0))
    return np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > _CONSTANT)


def _u_centred(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    squares = np.square(x).sum(axis=1)
    distances = np.sqrt((squares[:, None] + squares - 2 * x @ x.T).clip(0))
    np.fill_diagonal(distances, 0.0)
    n = len(x)
    rows = distances.sum(axis=1) / (n - 2)
    centred = distances - rows[:, None] - rows + distances.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred
