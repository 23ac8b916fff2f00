"""Counting, and the exact sensitivity of what is counted and scored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.table import marginals
from dagster_project.table.measurements import TableMeasurement, noisy_total, selection_scores

SIZES = (3, 2, 4)
record = st.tuples(*(st.integers(0, size - 1) for size in SIZES))
tables = st.lists(record, max_size=12)


class Silent:
    """In place of the secure generator: no noise, so that what is exact can be seen."""

    def discrete_gaussian(self, shape, *, sigma):
        return np.zeros(shape, dtype=np.int64)


def as_codes(rows: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(rows, dtype=np.int16).reshape(-1, len(SIZES))


@settings(deadline=None, max_examples=60)
@given(tables, st.permutations(range(3)), st.integers(1, 3))
def test_counts_agree_with_a_loop(rows, order, ways):
    axes = tuple(order[:ways])
    expected = np.zeros([SIZES[axis] for axis in axes], dtype=np.int64)
    for row in rows:
        expected[tuple(row[axis] for axis in axes)] += 1
    counted = marginals.count(as_codes(rows), SIZES, axes)
    assert counted.dtype == np.int64
    np.testing.assert_array_equal(counted, expected)


@settings(deadline=None, max_examples=30)
@given(tables)
def test_one_pass_in_pieces_counts_every_pair(rows):
    codes = np.repeat(as_codes(rows), 3, axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(marginals, "_ROWS", 5)
        counted = marginals.two_way(codes, SIZES)
    assert list(counted) == marginals.attribute_pairs(3)
    for pair, table in counted.items():
        assert table.dtype == np.int64
        np.testing.assert_array_equal(table, marginals.count(codes, SIZES, pair))


def measurement(sigma):
    return TableMeasurement(sigma=sigma, marginals=1)


@settings(deadline=None, max_examples=60)
@given(tables, record)
def test_one_person_changes_one_cell_of_a_measurement_by_one(rows, person):
    before, after = as_codes(rows), as_codes([*rows, person])
    for axes in [(0,), (1,), (2,), *marginals.attribute_pairs(3)]:
        vectors = [
            measurement(1.0)
            .run(
                marginals.count(codes, SIZES, axes),
                names=[str(axis) for axis in axes],
                generator=Silent(),
            )
            .values
            for codes in (before, after)
        ]
        change = vectors[1] - vectors[0]
        assert change.sum() == 1 and np.abs(change).sum() == 1
        assert change[tuple(person[axis] for axis in axes)] == 1


@settings(deadline=None, max_examples=60)
@given(
    tables,
    record,
    st.lists(st.floats(0, 20), min_size=26, max_size=26),
    st.floats(0, 100),
)
def test_one_person_changes_no_selection_score_by_more_than_one(rows, person, guesses, sigma):
    # The expected counts are arbitrary: whatever the model released before says, the bound holds.
    pairs = marginals.attribute_pairs(3)
    flat = np.array(guesses)
    expected, start = [], 0
    for i, j in pairs:
        cells = SIZES[i] * SIZES[j]
        expected.append(flat[start : start + cells].reshape(SIZES[i], SIZES[j]))
        start += cells
    scores = []
    for data in (rows, [*rows, person]):
        exact = marginals.two_way(as_codes(data), SIZES)
        scores.append(selection_scores([exact[p] for p in pairs], expected, sigma=sigma))
    assert np.abs(scores[1] - scores[0]).max() <= 1 + 1e-9


def test_selection_scores_reach_their_sensitivity_in_both_directions():
    # Adversarial neighbours: the model overestimates one cell and underestimates the other.
    expected = [np.array([[5.0, 0.0]])]
    base = selection_scores([np.array([[1, 1]])], expected, sigma=0)
    better = selection_scores([np.array([[2, 1]])], expected, sigma=0)
    worse = selection_scores([np.array([[1, 2]])], expected, sigma=0)
    assert (better - base).item() == -1 and (worse - base).item() == 1


def test_selection_score_takes_off_the_expected_noise():
    exact, guess = np.zeros((2, 3)), np.full((2, 3), 2.0)
    score = selection_scores([exact], [guess], sigma=10.0)
    assert score == pytest.approx(12 - np.sqrt(2 / np.pi) * 10 * 6)


def test_total_is_the_inverse_variance_mean_within_public_bounds():
    small = measurement(2.0).run(np.array([60, 40]), names=("a",), generator=Silent())
    large = measurement(2.0).run(np.array([100, 20, 10, 0]), names=("b",), generator=Silent())
    # Variances 2 and 4 times sigma squared.
    assert noisy_total([small, large], n_public=100) == pytest.approx((2 * 100 + 130) / 3)
    assert noisy_total([small], n_public=5) == 50
    assert noisy_total([small], n_public=5000) == 500


@pytest.mark.parametrize("bad", [-1, 3])
def test_a_code_outside_the_domain_is_refused(bad):
    with pytest.raises(ValueError, match="outside") as error:
        marginals.count(np.array([[0, 0, 0], [bad, 0, 0]]), SIZES, (0, 1))
    assert str(bad) not in str(error.value)
    with pytest.raises(ValueError, match="outside"):
        marginals.two_way(np.array([[0, 0, 0], [0, 0, bad + 1 if bad > 0 else bad]]), SIZES)


def test_an_empty_table_counts_zero():
    assert marginals.count(as_codes([]), SIZES, (0, 2)).tolist() == np.zeros((3, 4)).tolist()


def test_a_million_records_are_counted_like_a_few():
    codes = np.random.default_rng(0).integers(0, 10, (1_000_000, 2)).astype(np.int16)
    table = marginals.count(codes, (10, 10), (0, 1))
    parts = [marginals.count(part, (10, 10), (0, 1)) for part in np.split(codes, 1_000)]
    assert table.tolist() == sum(parts).tolist()
    assert table.sum() == 1_000_000


def test_tvd():
    assert marginals.tvd(np.array([1, 0]), np.array([0, 5])) == 1
    assert marginals.tvd(np.array([[3, 1]]), np.array([[0.5, 0.5]])) == pytest.approx(0.25)
