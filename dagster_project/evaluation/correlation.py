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

_COMPONENTS = 16
_DISTANCE_ROWS = 1000


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
    """

    gap: float
    gap_real: float
    gap_shuffled: float
    eta_squared: dict[str, tuple[float, float]]
    distance_correlation: tuple[float, float]


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
        rng: Public randomness (shuffling, sub-sampling).
    """
    mean, basis = _components(real[0])

    def project(sample: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return (sample[0] - mean) @ basis, schema.one_hot(sample[1])

    (real_z, real_hot), (synthetic_z, synthetic_hot) = project(real), project(synthetic)
    target = _correlations(real_z, real_hot)
    # A cell too rare in the real sample has no reliable correlation to compare with.
    known = real_hot.sum(axis=0) >= 10

    def gap(z: np.ndarray, hot: np.ndarray) -> float:
        return float(np.abs(_correlations(z, hot) - target)[known].mean())

    return CorrelationScores(
        gap=gap(synthetic_z, synthetic_hot),
        gap_real=gap(*project(reference)),
        gap_shuffled=gap(synthetic_z, rng.permutation(synthetic_hot)),
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


def _correlations(z: np.ndarray, hot: np.ndarray) -> np.ndarray:
    """Return Pearson correlations (cells, components); 0 where one of the two is constant."""
    z, hot = z - z.mean(axis=0), hot - hot.mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.outer(np.square(hot).sum(axis=0), np.square(z).sum(axis=0)))
    return np.divide(hot.T @ z, scale, out=np.zeros_like(scale), where=scale > 1e-12)


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
