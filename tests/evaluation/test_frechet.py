"""Distances between sets of features, against other ways to compute them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from dagster_project.evaluation import frechet
from dagster_project.evaluation.frechet import frechet_distance, kid, kid_draws


def sample(seed: int, n: int, width: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(seed + 1).normal(size=(width, width))
    return (rng.normal(size=(n, width)) @ mixing + seed).astype(np.float32)


def test_frechet_agrees_with_the_matrix_root() -> None:
    a, b = sample(0, 300), sample(1, 200)
    s, t = (np.cov(x.astype(np.float64), rowvar=False) for x in (a, b))
    shift = np.square(a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)).sum()
    expected = shift + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(-5, 5))
def test_frechet_of_singular_covariances(seed: int, shift: float) -> None:
    a = sample(seed, 8, width=20)  # fewer rows than features
    assert frechet_distance(a, a + np.float32(shift)) == pytest.approx(
        20 * shift**2, rel=1e-3, abs=1e-2
    )


def test_frechet_of_one_feature() -> None:
    a = np.random.default_rng(0).normal(size=(500, 1))
    spread = a.std(ddof=1)
    assert frechet_distance(a, 3 * a) == pytest.approx(4 * (spread**2 + a.mean() ** 2))


def test_kid_agrees_with_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "_ROWS", 16)
    a, b = sample(0, 40).astype(np.float64), sample(3, 30).astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def off_diagonal(x: np.ndarray) -> float:
        return float(kernel(x, x)[~np.eye(len(x), dtype=bool)].mean())

    expected = off_diagonal(a) + off_diagonal(b) - 2 * kernel(a, b).mean()
    assert kid(a, b) == pytest.approx(expected)


def test_kid_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    values = [kid(rng.normal(size=(30, 4)), rng.normal(size=(30, 4))) for _ in range(100)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 10


def test_kid_of_a_sample_of_people_leaves_out_pairs_of_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frechet, "_ROWS", 7)
    a, b = sample(0, 20).astype(np.float64), sample(3, 15).astype(np.float64)
    weights = np.random.default_rng(0).multinomial(20, [1 / 20] * 20, size=3)
    for draw, row in zip(kid_draws(a, b, weights), weights, strict=True):
        who = np.repeat(np.arange(20), row)
        people, others = a[who], who[:, None] != who
        inside = ((people @ people.T / 6 + 1) ** 3)[others].mean()
        across = ((people @ b.T / 6 + 1) ** 3).mean()
        other = ((b @ b.T / 6 + 1) ** 3)[~np.eye(15, dtype=bool)].mean()
        assert draw == pytest.approx(inside + other - 2 * across)


def test_refuses_sets_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="same width"):
        frechet_distance(sample(0, 5, 4), sample(0, 5, 6))
    with pytest.raises(ValueError, match="two rows"):
        kid(sample(0, 1), sample(0, 5))
