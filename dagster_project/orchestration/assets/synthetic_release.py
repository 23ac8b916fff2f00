"""The public bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from dagster_project.orchestration.stage import StageRun, stage


class SampleConfig(dg.Config):
    """Number of pairs and the public seed of the sampling."""

    n: int = Field(4000, gt=0)
    seed: int = Field(1, ge=0)
    licence: str | None = Field(None, description="Licence of the synthetic data: cc-by-4.0, ...")


@stage(config=SampleConfig)
def synthetic_release(run: StageRun, config: SampleConfig) -> Mapping[str, Any]:
    """Sample records from the table model, then an image for each, and write the bundle that may
    be published. Post-processing: costs nothing."""
    from dagster_project.pipeline import synthetic_release as library

    release = run.release
    folder = run.store.bundle(release, n=config.n, seed=config.seed)
    facts = {"dagster_run": run.context.run_id}
    keyed = run.budget.population().keyed_version(release.plan.data_version)
    facts["mlflow_run"] = run.tracking.log_release(release, folder, run.context.run_id, keyed)
    release.ledger.attach(release.id, **facts)
    return {
        "pairs": config.n,
        "bundle": dg.MetadataValue.path(str(folder)),
        "epsilon": release.plan.epsilon,
        "delta": release.plan.target_delta,
        "synthetic pairs": dg.MetadataValue.md(library.preview_markdown(folder)),
        "mlflow run": facts["mlflow_run"],
        "data_version": library.content_hash(folder),
    }
