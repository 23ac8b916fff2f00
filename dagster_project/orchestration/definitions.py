"""Definitions of the graph. Tests and the command line call `build_definitions`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.orchestration import checks
from dagster_project.orchestration.assets.dataset import data_files
from dagster_project.orchestration.resources import (
    ROOT,
    BudgetLedger,
    ComputeResource,
    DataSet,
    ReleaseStore,
    Tracking,
    placed,
)
from dagster_project.orchestration.sensors import data_changed
from dagster_project.orchestration.stage import ReleaseIdIOManager
from dagster_project.pipeline.order import STAGES

STAGE_ASSETS = tuple(
    getattr(import_module(f"dagster_project.orchestration.assets.{stage.name}"), stage.name)
    for stage in STAGES
)
CHECKS = (checks.files_match_schema, checks.records_fit_schema)


def build_definitions(
    root: Path = ROOT, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Return all assets, checks and resources, the `release` job and the proposing sensor.

    Args:
        root: Folder of the zones and the ledger; relative paths start from it.
        resources: Resources that replace the default ones, by name.
    """
    return dg.Definitions(
        assets=[data_files, *STAGE_ASSETS],
        asset_checks=CHECKS,
        sensors=[data_changed],
        jobs=[
            dg.define_asset_job(
                "release",
                selection=dg.AssetSelection.all(),
                description="A private release from the data to the report.",
                # Only the ledger decides what may be drawn again, never the orchestrator.
                tags={"dagster/max_retries": "0"},
            )
        ],
        resources={
            "data": placed(DataSet, root),
            "budget": placed(BudgetLedger, root),
            "store": placed(ReleaseStore, root),
            "compute": ComputeResource(),
            "tracking": placed(Tracking, root),
            "release_id": ReleaseIdIOManager(folder=str(root / ".dagster" / "releases")),
            **(resources or {}),
        },
        executor=dg.in_process_executor,
    )


# In a container the code and the project's folder are in two places.
definitions = build_definitions(Path(os.environ.get("DPTABIMAGE_ROOT", ROOT)))
