"""The integer grid: no norm grows, the bound is a statement on integers, sums are exact."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.privacy import grid
from dagster_project.privacy.grid import UNITS, clipped_sum, to_grid, to_numbers

# Any float at all: zeros of both signs, subnormals, overflows, infinities and what is no number.
WIDTHS = {torch.float32: 32, torch.float64: 64}


def exact_square(row) -> int:
    return sum(int(value) ** 2 for value in row)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), max_norm=st.floats(1e-3, 1e3), kind=st.sampled_from(list(WIDTHS)))
def test_no_row_is_ever_longer_than_the_bound(data, max_norm, kind):
    row = data.draw(st.lists(st.floats(width=WIDTHS[kind]), min_size=4, max_size=4))
    (units,) = to_grid(torch.tensor([row], dtype=kind), max_norm=max_norm).double().numpy()
    assert np.array_equal(units, np.trunc(units))
    assert exact_square(units) <= UNITS**2
    if not all(math.isfinite(value) for value in row):
        assert not units.any()


@pytest.mark.parametrize("size", [1, 3, 1000, 100_000])
@pytest.mark.parametrize("length", [0.3, 1.0, 1 + 1e-7, 50.0, 1e30])
def test_rows_keep_their_direction_and_reach_the_bound(size, length):
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((3, size))
    rows *= length / np.linalg.norm(rows, axis=1, keepdims=True)
    units = to_grid(torch.from_numpy(rows).float(), max_norm=1.0)
    numbers = to_numbers(units.double().numpy())
    wanted = rows * min(1.0, 1 / length)
    # Truncation takes less than a unit of each coordinate, and never moves it outwards.
    assert np.abs(numbers - wanted).max() < 2 / UNITS + 1e-5 * np.abs(wanted).max()
    assert (np.linalg.norm(numbers, axis=1) <= 1).all()
    assert (np.linalg.norm(numbers, axis=1) >= min(1.0, length) * (1 - 1e-4)).all()


def test_truncation_makes_no_coordinate_larger():
    rows = torch.randn(100, 50) * 0.1
    units = to_grid(rows, max_norm=1.0)
    assert (units.abs() <= (rows.double() * UNITS).abs()).all()


def test_a_row_is_clipped_over_all_its_entries():
    """Those of whole blocks and those that are left over."""
    rows = torch.cat([torch.full((2, 300), 3.0), torch.full((2, 1), 40.0)], dim=1)
    square = exact_square(to_grid(rows, max_norm=2.0)[0].double().numpy())
    assert UNITS**2 * (1 - 2e-5) < square <= UNITS**2


def test_nobody_has_no_rows():
    assert to_grid(torch.zeros(0, 5), max_norm=1.0).shape == (0, 5)
    assert not clipped_sum(torch.zeros(0, 5), max_norm=1.0).any()


def test_one_person_moves_an_exact_sum_by_at_most_the_bound():
    """The sum of rows of norm just above one, with and without each of them, in integers."""
    rows = torch.nn.functional.normalize(torch.randn(400, 64), dim=1) * (1 + 1e-6)
    units = to_grid(rows, max_norm=1.0)
    total = units.sum(dim=0, dtype=torch.float64)
    for left_out in range(0, 400, 7):
        others = torch.cat([units[:left_out], units[left_out + 1 :]]).sum(
            dim=0, dtype=torch.float64
        )
        assert exact_square((total - others).numpy()) <= UNITS**2


@pytest.mark.parametrize("max_norm", [1e-32, 0.0, math.inf, math.nan])
def test_norms_whose_grid_overflows_are_refused(max_norm):
    with pytest.raises(ValueError, match="max_norm"):
        to_grid(torch.zeros(1, 3), max_norm=max_norm)


def test_types_that_cannot_hold_the_integers_are_refused():
    with pytest.raises(ValueError, match="float32"):
        to_grid(torch.zeros(1, 3, dtype=torch.float16), max_norm=1.0)


@pytest.mark.parametrize("people", [5, 300])  # in int32 and in int64
def test_the_clipped_sum_is_the_sum_of_the_integers_of_those_present(people):
    rng = np.random.default_rng(people)
    rows = rng.standard_normal((people, 9000)) * 10.0 ** rng.integers(-6, 7, size=(people, 1))
    rows[1, 3], rows[2, 0] = math.nan, math.inf
    rows = torch.from_numpy(rows).float()
    present = torch.arange(people) % 4 != 0
    expected = to_grid(rows, max_norm=0.3)[present].double().sum(0)
    found = clipped_sum(rows, max_norm=0.3, present=present)
    assert found.dtype == torch.int64 and torch.equal(found.double(), expected)
    every = to_grid(rows, max_norm=0.3).double().sum(0)
    assert torch.equal(clipped_sum(rows, max_norm=0.3).double(), every)


@pytest.mark.parametrize("entry", [0.0, 1e-30, 1e25, math.inf, math.nan])
def test_no_neighbour_changes_what_becomes_of_a_row(entry):
    """Whose squares overflow, vanish or are no number: the others keep their last bits."""
    rows = torch.randn(6, 1000)
    expected = to_grid(rows, max_norm=1.0)
    rows[3] = entry
    found = to_grid(rows, max_norm=1.0)
    others = [0, 1, 2, 4, 5]
    assert torch.equal(found[others], expected[others])


def test_no_place_changes_what_becomes_of_a_row():
    """One person less moves all who follow; norms over many blocks keep their last bits."""
    rows = torch.randn(44, 40001, generator=torch.Generator().manual_seed(0))
    here, moved = (grid._norms(rows[some]) for some in (slice(0, 43), slice(1, 44)))
    assert torch.equal(here[1:], moved[:-1])


@pytest.mark.parametrize("scale", [1e-22, 1e-8, 1.0, 1e12, 1e22])
def test_computed_norms_are_right_to_the_margin(scale):
    """Positive entries are the worst case of a sum of squares, and lengths of the bound the
    tightest."""
    for size in (1, 127, 128, 129, 5000):
        rows = torch.rand(20, size, generator=torch.Generator().manual_seed(size)) * scale
        units = to_grid(rows, max_norm=1.0)
        assert all(exact_square(row.double().numpy()) <= UNITS**2 for row in units)
        true = rows.double().square().sum(dim=1).sqrt()
        assert ((grid._norms(rows) / true - 1).abs() < grid._MARGIN / 2).all()
