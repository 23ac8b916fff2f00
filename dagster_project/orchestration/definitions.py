"""The graph: stages in the data's order. `build_definitions` is the seam for tests and the CLI."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.orchestration import checks
from dagster_project.orchestration.assets.budget_lineage import budget_lineage
from dagster_project.orchestration.assets.dataset import dataset
from dagster_project.orchestration.assets.fidelity_report import fidelity_report
from dagster_project.orchestration.assets.image_model import image_model
from dagster_project.orchestration.assets.mean_pairs import mean_pairs
from dagster_project.orchestration.assets.pairs import pairs
from dagster_project.orchestration.assets.pretrained_checkpoint import pretrained_checkpoint
from dagster_project.orchestration.assets.privacy_plan import privacy_plan
from dagster_project.orchestration.assets.public_checkpoint import public_checkpoint
from dagster_project.orchestration.assets.public_images import public_images
from dagster_project.orchestration.assets.semantic_query import semantic_query
from dagster_project.orchestration.assets.subsample import subsample
from dagster_project.orchestration.assets.synthetic_release import synthetic_release
from dagster_project.orchestration.assets.table_model import table_model
from dagster_project.orchestration.resources import (
    ROOT,
    BudgetLedger,
    ComputeResource,
    DataSet,
    ReleaseStore,
    Tracking,
)
from dagster_project.orchestration.sensors import data_changed
from dagster_project.orchestration.stage import ReleaseIdIOManager

ASSETS = (
    dataset,
    privacy_plan,
    public_images,
    pairs,
    table_model,
    semantic_query,
    public_checkpoint,
    subsample,
    mean_pairs,
    pretrained_checkpoint,
    image_model,
    synthetic_release,
    fidelity_report,
    budget_lineage,
)
CHECKS = (checks.files_match_schema, checks.records_fit_schema)


def build_definitions(
    root: Path = ROOT, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """All assets, checks, the `release` job, the sensor that proposes and the resources.

    Args:
        root: Folder that the zones, the ledger and relative paths lie in.
        resources: Resources that replace the default ones, by name.
    """
    place = str(root)
    return dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        sensors=[data_changed],
        jobs=[
            dg.define_asset_job(
                "release",
                selection=dg.AssetSelection.all(),
                description="A private release from the data to the report.",
                # The ledger decides what may be drawn again, never the orchestrator.
                tags={"dagster/max_retries": "0"},
            )
        ],
        resources={
            "data": DataSet(root=place),
            "budget": BudgetLedger(root=place),
            "store": ReleaseStore(root=place),
            "compute": ComputeResource(),
            "tracking": Tracking(root=place),
            "release_id": ReleaseIdIOManager(folder=str(root / ".dagster" / "releases")),
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )


definitions = build_definitions()
