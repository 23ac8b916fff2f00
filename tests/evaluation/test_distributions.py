"""Total variation distances of marginals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.evaluation import distributions
from dagster_project.evaluation.distributions import (
    kway_tvd,
    marginal_tvds,
    pairwise_tvd,
    sampling_floor,
)

SIZES = (3, 2, 4)


def table(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    first = rng.integers(3, size=n)
    columns = [first, (first + rng.integers(2, size=n)) % 2, rng.integers(4, size=n)]
    return np.stack(columns, axis=1).astype(np.int16)


def reference(a: np.ndarray, b: np.ndarray, subset: tuple[int, ...]) -> float:
    p, q = (pd.DataFrame(x[:, subset]).value_counts(normalize=True) for x in (a, b))
    return float(p.sub(q, fill_value=0).abs().sum() / 2)


@pytest.mark.parametrize("dense_cells", [1 << 21, 1])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_agrees_with_counting_by_hand(
    k: int, dense_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributions, "_DENSE_CELLS", dense_cells)
    a, b = table(0, 200), table(1, 90)
    for subset, distance in marginal_tvds(a, b, SIZES, k).items():
        assert len(subset) == k
        assert distance == pytest.approx(reference(a, b, subset), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
def test_is_a_distance_that_grows_with_k(seed: int, n: int, m: int) -> None:
    a, b = table(seed, n), table(seed + 1, m)
    distances = [kway_tvd(a, b, SIZES, k) for k in (1, 2, 3)]
    assert distances == pytest.approx([kway_tvd(b, a, SIZES, k) for k in (1, 2, 3)])
    assert 0 <= distances[0] <= distances[1] + 1e-12 <= distances[2] + 2e-12 <= 1 + 3e-12
    assert kway_tvd(a, np.concatenate([a, a]), SIZES, 3) == pytest.approx(0)


def test_floor_shrinks_with_more_rows() -> None:
    real, rng = table(0, 2000), np.random.default_rng(0)
    small, large = (sampling_floor(real, SIZES, 2, n_synthetic=n, rng=rng) for n in (100, 10_000))
    assert 0 < large < small / 4


def test_pairwise_matrix() -> None:
    a, b = table(0, 200), table(1, 90)
    matrix = pairwise_tvd(a, b, SIZES)
    assert np.array_equal(matrix, matrix.T)
    assert matrix[1, 1] == pytest.approx(reference(a, b, (1,)))
    assert matrix[0, 2] == pytest.approx(reference(a, b, (0, 2)))
    assert pairwise_tvd(a[:, :1], b[:, :1], SIZES[:1]).shape == (1, 1)


def test_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="4 attributes"):
        kway_tvd(table(0, 5), table(1, 5), SIZES, 4)
    with pytest.raises(ValueError, match="at least one row"):
        kway_tvd(table(0, 5), table(1, 5)[:0], SIZES, 1)
