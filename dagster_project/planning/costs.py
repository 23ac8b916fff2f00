"""The cost of each mechanism of a plan, in words, for people who compare them."""

from __future__ import annotations

from typing import Any

from dagster_project.privacy.accounting import cost_table
from dagster_project.privacy.plan import Plan


def mechanism_rows(plan: Plan) -> list[dict[str, Any]]:
    """Return the privacy cost of each mechanism, and in a last row that of all together."""
    table = cost_table(
        plan.mechanisms, target_delta=plan.target_delta, discretization=plan.discretization
    )
    return [
        {
            "mechanism": row["name"],
            "event": _words(row["event"]) if row["event"] else "joint composition",
            "epsilon alone": row["epsilon"],
        }
        for row in table
    ]


def _words(event: dict[str, object]) -> str:
    shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in event.items())
    return ", ".join(shown).removeprefix("type ")
