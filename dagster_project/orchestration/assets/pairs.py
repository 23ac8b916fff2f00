"""The private pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage(zone="private", after=["privacy_plan"])
def pairs(run: StageRun) -> Mapping[str, Any]:
    """Opens the reservation, then reads the records: one pair per person, pictures checked and
    resized, values by the schema's policies. From here on the release is spent."""
    from dagster_project.pipeline import pairs as library

    library.read(
        run.release,
        run.data.path,
        heldout_key=run.budget.population().member_key(),
        progress=run.progress,
    )
    plan = run.release.plan
    version = run.budget.population().keyed_version(plan.data_version)
    return {"n_public": plan.n_public, "data_version": version}
