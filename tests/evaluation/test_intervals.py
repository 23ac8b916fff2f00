"""Intervals over people: weights against repeated rows, and how often an interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from dagster_project.evaluation import correlation, intervals
from dagster_project.evaluation.alignment import _gap
from dagster_project.evaluation.intervals import (
    SAMPLES,
    interval,
    known_mean,
    resampling_weights,
    way_interval,
    weighted_auc,
)

RNG = np.random.default_rng


def test_the_first_row_is_the_sample_itself() -> None:
    weights = resampling_weights(30, RNG(0))
    assert weights.shape == (1 + SAMPLES, 30)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 30).all()
    assert (weights[1:] == 0).any(axis=1).all()


@pytest.mark.parametrize("digits", [1, 9])  # with and without ties
def test_weighted_auc_is_that_of_repeated_rows(
    digits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "_BLOCK", 400)
    positive, scores = RNG(0).random(40) < 0.3, RNG(1).random(40).round(digits)
    weights = resampling_weights(40, RNG(2))[:30]
    expected = [
        roc_auc_score(np.repeat(positive, row), np.repeat(scores, row))
        for row in weights.astype(int)
    ]
    assert weighted_auc(positive, scores, weights) == pytest.approx(expected)


def test_no_auc_where_a_sample_has_one_class() -> None:
    assert np.isnan(weighted_auc(np.array([True, False]), np.zeros(2), np.array([[1.0, 0.0]])))


def test_interval_of_a_mean_holds_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        rows = RNG(seed).exponential(size=80)
        low, high = interval(resampling_weights(80, RNG(seed + 1)) @ rows / 80) or (0, 0)
        held += low <= 1 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_interval_is_centred_though_resampling_shifts_the_figure() -> None:
    low, high = interval(np.r_[0.2, RNG(0).normal(0.5, 0.01, SAMPLES)]) or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.2, abs=0.003)
    assert high - low == pytest.approx(2 * 1.96 * 0.01, rel=0.2)


def test_nobody_and_everybody_have_the_exact_interval() -> None:
    exact = binomtest(0, 37).proportion_ci(0.95)
    assert interval(np.zeros(1 + SAMPLES), 0, 1, people=37) == pytest.approx(exact)
    exact = binomtest(37, 37).proportion_ci(0.95)
    assert interval(np.ones(1 + SAMPLES), 0, 1, people=37) == pytest.approx(exact)


def test_no_interval_where_samples_tell_nothing() -> None:
    assert interval(np.full(1 + SAMPLES, 0.3)) is None
    assert interval(np.full(1 + SAMPLES, np.nan)) is None
    assert interval(np.array([np.nan])) is None


def test_interval_of_a_way_stays_on_the_way() -> None:
    draws = RNG(0).normal(0.9, 0.05, 1 + SAMPLES)
    draws[0] = 0.9
    low, high = way_interval(np.full_like(draws, 0.5), draws, np.full_like(draws, 0.9)) or (0, 0)
    assert 0.6 < low < 0.9
    assert high == 1


def test_mean_of_what_is_known() -> None:
    assert known_mean(np.array([[1.0, np.nan], [3.0, np.nan]])) == pytest.approx(
        [2, np.nan], nan_ok=True
    )


def test_weighted_correlations_are_those_of_repeated_rows() -> None:
    z, hot = RNG(0).normal(size=(30, 2)), np.eye(3)[RNG(1).integers(3, size=30)]
    hot = np.c_[hot, np.zeros(30)]  # a cell that does not occur
    weights = resampling_weights(30, RNG(2))[:5]
    found = correlation._weighted_correlations(z, hot, weights)
    for i, row in enumerate(weights.astype(int)):
        a, b = np.repeat(hot, row, axis=0), np.repeat(z, row, axis=0)
        expected = np.corrcoef(a[:, :3], b, rowvar=False)[:3, 3:]
        assert found[i, :3] == pytest.approx(expected)
    assert (found[:, 3] == 0).all()


def test_similarity_gap_of_people_drawn_once_or_not_at_all() -> None:
    a, b = RNG(0).normal(size=(2, 20, 4))
    weights = np.ones((2, 20))
    weights[1, :10] = 0  # half of the people, with the mismatches among themselves
    _, half = _gap(a, b, weights, rng=RNG(1))
    others = (np.arange(20) + RNG(1).integers(1, 20, size=(10, 20))) % 20
    pairs = [(i, j) for row in others for i, j in enumerate(row) if i >= 10 and j >= 10]
    expected = np.mean([a[i] @ b[i] for i in range(10, 20)]) - np.mean(
        [a[i] @ b[j] for i, j in pairs]
    )
    assert half == pytest.approx(expected)
