"""The network that adds detail to coarse images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def detail_model(run: StageRun) -> Mapping[str, Any]:
    """Fit the released means of what a public network sees, over coarse images that the image
    model draws. Reads nothing private. Only a two-scale recipe has this stage."""
    from dagster_project.pipeline import detail_model as library

    if not library.used(run.release):
        return {"steps": 0, "data_version": "none"}
    return {
        "steps": run.release.recipe.detail.steps,
        "data_version": run.release.ledger.committed(run.release.id, "detail_model").files[
            library.FILES[0]
        ],
    }
