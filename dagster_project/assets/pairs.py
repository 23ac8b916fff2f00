"""The private pairs and the Poisson sample of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.assets.stage import StageRun, stage


@stage(zone="private", after=["privacy_plan"])
def pairs(run: StageRun) -> Mapping[str, Any]:
    """Opens the reservation, then reads the records: one pair per person, pictures checked and
    resized, values by the schema's policies. From here on the release is spent."""
    from dagster_project.stages import pairs as library

    library.read(
        run.release,
        run.data.path,
        heldout_key=run.budget.population().member_key(),
        progress=run.progress,
    )
    plan = run.release.plan
    version = run.budget.population().keyed_version(plan.data_version)
    return {"n_public": plan.n_public, "data_version": version}


@stage(zone="private", after=["pairs"])
def subsample(run: StageRun) -> Mapping[str, Any]:
    """Draws the Poisson sample for the mean pairs by coins from a fresh key of the operating
    system. Read once, by mean_pairs, and destroyed."""
    from dagster_project.stages import pairs as library

    release = run.release
    library.subsample(release)
    spends = release.spends("mean_pairs")
    return {
        "sample_rate": release.declared("mean_pairs")["sample_rate"] if spends else 0,
        "data_version": release.id,
    }
