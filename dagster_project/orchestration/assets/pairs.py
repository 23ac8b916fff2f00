"""The private pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def pairs(run: StageRun) -> Mapping[str, Any]:
    """Open the reservation, then read the records: one pair per person, images checked and
    resized, values handled by the schema's policies. From here on the budget is spent."""
    plan = run.release.plan
    version = run.budget.population().keyed_version(plan.data_version)
    return {"n_public": plan.n_public, "data_version": version}
