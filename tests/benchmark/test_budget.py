"""The public rule from CPU seconds to steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.benchmark.budget import allot, seconds_per_step

parts = st.dictionaries(
    st.sampled_from(("image_generator", "pretraining", "dp_sgd")),
    st.tuples(st.floats(1e-3, 2.0), st.integers(1, 500)),
    min_size=1,
)


@given(parts, st.floats(10, 1000), st.booleans())
def test_steps_stay_within_the_limit(
    asked: dict[str, tuple[float, int]], limit: float, has_open: bool
) -> None:
    costs = {name: cost for name, (cost, _) in asked.items()}
    wanted = {name: steps for name, (_, steps) in asked.items()}
    open_part = "dp_sgd" if has_open and "dp_sgd" in asked else None
    steps = allot(costs, wanted, limit=limit, open_part=open_part)
    used = sum(costs[name] * steps[name] for name in steps)
    assert all(count >= 1 for count in steps.values())
    assert all(steps[name] <= wanted[name] for name in steps if name != open_part)
    # A part that would round to nothing keeps one step.
    assert used <= limit + sum(costs.values())
    if open_part is not None:
        assert used > limit - max(costs.values()) - sum(costs.values())


def test_a_shortened_recipe_keeps_its_shape() -> None:
    steps = allot({"a": 0.5, "b": 2.0}, {"a": 400, "b": 100}, limit=100, open_part="b")
    assert steps == {"a": 100, "b": 25}


def test_a_limit_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="are too few for one training step"):
        allot({"a": 5.0}, {"a": 1}, limit=4.0)


def test_what_does_not_grow_with_the_steps_is_no_cost_of_a_step() -> None:
    now = 0.0
    delays = iter([9.0, 0.0, 2.5, 4.0, 0.0])  # the first run compiles; others meet other load

    def run(steps: int) -> None:
        nonlocal now
        now += 3.0 + 0.25 * steps + next(delays)

    assert seconds_per_step(run, few=1, many=21, clock=lambda: now) == 0.25
