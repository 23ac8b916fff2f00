"""What all tests share: plans are solved on a coarse grid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def real_grid() -> Iterator[float]:
    """Gives the grid of a real plan; plans in this process are solved on one ten times as coarse.

    That takes a tenth of the time. Epsilon is rounded up on every grid, so a plan still meets its
    target from below. Processes that a test starts have the real grid.
    """
    from dagster_project.planning import planner  # not needed to collect the tests

    real = planner.DISCRETIZATION
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "DISCRETIZATION", 10 * real)
        yield real
