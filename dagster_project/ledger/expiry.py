"""Return of reservations that were not opened in time, so that a forgotten plan holds no budget.

Time is the ledger's own: the latest time in any entry, or now if that is later. It never goes back.
If a clock jumps ahead, a reservation is given back too early and the release needs another name; if
it jumps back, the reservation is kept longer. Neither forgets what was spent, whatever the clocks
say: only what was never opened can be given back, and under the write lock a reservation is either
opened or given back, whichever comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from dagster_project.ledger.state import State


def overdue(state: State, days: int, *, kept: str = "") -> Iterator[str]:
    """Yield the releases, except `kept`, reserved more than `days` ago and not opened since."""
    limit = max(state.time, datetime.now(UTC)) - timedelta(days=min(days, 36_500))
    for name, since in state.reserved.items():
        if since >= limit:
            return  # the rest was reserved later
        if name != kept:
            yield name


def freed(state: State, days: int, *, kept: str = "") -> dict[str, Fraction]:
    """Return the cost by cohort that giving back all overdue reservations would free."""
    sums: dict[str, Fraction] = {}
    for name in overdue(state, days, kept=kept):
        for cohort, cost in state.releases[name].charges.items():
            sums[cohort] = sums.get(cohort, Fraction(0)) + Fraction(cost)
    return sums


def entries(state: State, days: int, *, kept: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return the entries to record in order to give back all overdue reservations."""
    return [
        ("VOID", {"release_id": name, "expired_after_days": days})
        for name in overdue(state, days, kept=kept)
    ]
