"""Two runs of one comparison: how far apart their figures lie, and how far chance puts them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dagster_project.benchmark.agreement import LIMIT, difference, markdown
from tests.benchmark.test_table import cells, row


def test_a_difference_is_read_in_deviations_of_both_runs() -> None:
    one = difference([1.0, 3.0], [5.0, 7.0])
    assert one is not None
    assert (one.before, one.again) == (2.0, 6.0)
    assert one.deviation == pytest.approx(math.sqrt(2))
    assert one.deviations == pytest.approx(4 / math.sqrt(2))


def test_too_few_seeds_say_nothing() -> None:
    assert difference([1.0], [2.0]) is None
    assert difference([], [2.0, 3.0]) is None


def test_figures_without_spread() -> None:
    same, apart = difference([0.5, 0.5], [0.5]), difference([0.5, 0.5], [0.4])
    assert same is not None and same.deviations == 0.0
    assert apart is not None and apart.deviations == -math.inf


@pytest.mark.parametrize(("before", "again"), [(3, 1), (3, 3), (2, 5)])
def test_chance_is_what_runs_of_the_same_give(before: int, again: int) -> None:
    values = np.random.default_rng(0).normal(7.0, 3.0, (20_000, before + again))
    compared = [difference(list(v[:before]), list(v[before:])) for v in values]
    apart = np.mean([abs(one.deviations) > LIMIT for one in compared if one is not None])
    stated = compared[0]
    assert stated is not None
    assert apart == pytest.approx(stated.chance, abs=0.01)


def test_a_line_for_what_both_runs_have_and_a_count_in_the_end() -> None:
    before = [row("base", 1.0, s, fd=100.0 + s) for s in range(3)] + [row("base", 10.0, 0)]
    again = [row("base", 1.0, 0, fd=104.0), row("new", 1.0, 0)]
    table = markdown(before, again)
    heading, _, *body = cells(table)
    assert len(body) == 1 and len(body[0]) == len(heading)
    assert body[0][:3] == ["base", "1", "3, 1"]
    assert body[0][heading.index("FD-Lite0")] == "101.0 → 104.0 (+3.0)"
    assert "NOT A RELEASE" in table
    assert "1 of 14 figures differ by more than 2 standard deviations" in table
