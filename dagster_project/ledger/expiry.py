"""Reservations that nobody opened in time are given back, so that a forgotten plan holds no budget.

Time is the ledger's own: the latest that any entry says, or now where that is later. It never goes
back. A clock that jumps ahead gives a reservation back too early, and the release needs another
name; one that jumps back keeps it longer. Neither forgets what was spent, whatever the clocks say:
only what was never opened can be given back, and under the write lock a reservation is either
opened or given back, whichever comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from dagster_project.ledger.state import State


def overdue(state: State, days: int, *, kept: str = "") -> Iterator[str]:
    """Releases reserved more than `days` ago and not opened since, except `kept`."""
    limit = max(state.time, datetime.now(UTC)) - timedelta(days=min(days, 36_500))
    for name, since in state.reserved.items():
        if since >= limit:
            return  # the rest was reserved later
        if name != kept:
            yield name


def freed(state: State, days: int, *, kept: str = "") -> dict[str, Fraction]:
    """Cost by cohort that giving back what is overdue would free."""
    sums: dict[str, Fraction] = {}
    for name in overdue(state, days, kept=kept):
        for cohort, cost in state.releases[name].charges.items():
            sums[cohort] = sums.get(cohort, Fraction(0)) + Fraction(cost)
    return sums


def entries(state: State, days: int, *, kept: str = "") -> list[tuple[str, dict[str, Any]]]:
    """What to record, to give back all that is overdue."""
    return [
        ("VOID", {"release_id": name, "expired_after_days": days})
        for name in overdue(state, days, kept=kept)
    ]
