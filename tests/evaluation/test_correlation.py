"""Correlations between records and picture features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.evaluation.correlation import (
    correlation_scores,
    distance_correlation,
    eta_squared,
)
from dagster_project.image.features import PooledPixels


def test_eta_squared() -> None:
    codes = np.array([0, 0, 1, 1])
    assert eta_squared(np.array([[1.0], [1], [3], [3]]), codes, 3) == pytest.approx(1)
    assert eta_squared(np.array([[1.0], [3], [1], [3]]), codes, 2) == pytest.approx(0)
    assert eta_squared(np.array([[0.0], [2], [4], [6]]), codes, 2) == pytest.approx(16 / 20)
    assert eta_squared(np.ones((4, 2)), codes, 2) == 0


def test_distance_correlation() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    assert distance_correlation(x, 2 * x + 1, rng) == pytest.approx(1)
    assert abs(distance_correlation(x, rng.normal(size=(400, 2)), rng)) < 0.05
    # A dependence that no linear correlation shows.
    assert distance_correlation(x[:, :1], x[:, :1] ** 2, rng) > 0.1


def test_gap_lies_between_real_and_shuffled(
    schema: Schema, make_pairs: Callable[[int, int], Pairs]
) -> None:
    def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
        pairs = make_pairs(1200, seed)
        return PooledPixels()(pairs.images, silent), np.array(pairs.codes)

    real, reference, synthetic = sample(0), sample(1), sample(2)
    rng = np.random.default_rng(0)
    half = rng.random(1200) < 0.5
    synthetic[1][half] = rng.permutation(synthetic[1][half])
    scores = correlation_scores(real, reference, synthetic, schema, rng)
    assert scores.gap_real < scores.gap < scores.gap_shuffled
    value = dict(scores.eta_squared)["colour"]
    assert value[0] > 2 * value[1]
    assert scores.distance_correlation[0] > 2 * scores.distance_correlation[1]
