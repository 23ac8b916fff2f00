"""Public quality: exact on clean counts, and on noise what the formula expects."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dagster_project.data.schema import Schema
from dagster_project.release.quality import public_quality
from dagster_project.table.measurements import Measurement

NAMES = ("kind of thing", "weight")


def marginal(codes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    counts = np.zeros(shape, dtype=np.int64)
    for cell in codes:
        counts[tuple(cell)] += 1
    return counts


def records(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    return np.stack([kind, (kind + rng.choice(4, n, p=[0.7, 0.1, 0.1, 0.1])) % 4], axis=1)


def test_exact_counts_of_the_same_records_have_no_distance(schema: Schema) -> None:
    codes = records(500, 0)
    measurements = [
        Measurement(names=NAMES, values=marginal(codes, (3, 4)), sigma=1e-3),
        Measurement(names=NAMES[1:], values=marginal(codes[:, 1:], (4,)), sigma=1e-3),
    ]
    quality = public_quality(codes, schema, measurements)
    assert quality["mean_tvd"] == pytest.approx(0, abs=1e-12)
    assert [row["clique"] for row in quality["cliques"]] == [["weight"], list(NAMES)]
    assert [row["cells"] for row in quality["cliques"]] == [4, 12]


def test_distance_is_the_total_variation(schema: Schema) -> None:
    values = np.array([50, 30, 20])
    codes = np.zeros((10, 2), dtype=np.int16)  # everyone in the first cell
    measurement = Measurement(names=NAMES[:1], values=values, sigma=1e-6)
    assert public_quality(codes, schema, [measurement])["mean_tvd"] == pytest.approx(0.5)


def test_expectation_is_what_noise_alone_gives(schema: Schema) -> None:
    """Synthetic and private records from one distribution: the mean distance is the expected."""
    rng = np.random.default_rng(1)
    n_private, n_synthetic, sigma = 20_000, 1000, 60.0
    truth = marginal(records(200_000, 2), (3, 4)) / 200_000
    found, expected = [], []
    for _ in range(200):
        synthetic = rng.multinomial(n_synthetic, truth.ravel())
        cells = np.array(list(itertools.product(range(3), range(4))))
        noisy = np.rint(n_private * truth + rng.normal(0, sigma, truth.shape)).astype(np.int64)
        quality = public_quality(
            np.repeat(cells, synthetic, axis=0),
            schema,
            [Measurement(names=NAMES, values=noisy, sigma=sigma)],
        )
        found.append(quality["mean_tvd"])
        expected.append(quality["mean_expected_tvd"])
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.05)


def test_repeated_measurements_are_averaged_by_precision(schema: Schema) -> None:
    codes = records(1000, 3)
    exact = marginal(codes[:, :1], (3,))
    shift = np.array([300, -300, 0])
    good = Measurement(names=NAMES[:1], values=exact, sigma=1.0)
    bad = Measurement(names=NAMES[:1], values=exact + shift, sigma=3.0)
    quality = public_quality(codes, schema, [good, bad])
    assert quality["mean_tvd"] == pytest.approx(300 / 10 / 1000)  # weight 1/9 against 1
    assert len(quality["cliques"]) == 1


def test_unfit_input_is_refused(schema: Schema) -> None:
    codes = records(10, 0)
    good = Measurement(names=NAMES[:1], values=np.ones(3, dtype=np.int64), sigma=1.0)
    for measurements in (
        [],
        [Measurement(names=("other",), values=good.values, sigma=1.0)],
        [Measurement(names=NAMES[:1], values=np.ones(4, dtype=np.int64), sigma=1.0)],
    ):
        with pytest.raises(ValueError, match="measurement"):
            public_quality(codes, schema, measurements)
    with pytest.raises(ValueError, match="record"):
        public_quality(codes[:0], schema, [good])
