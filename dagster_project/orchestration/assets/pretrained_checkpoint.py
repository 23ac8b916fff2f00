"""The diffusion model, pretrained on released statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def pretrained_checkpoint(run: StageRun) -> Mapping[str, Any]:
    """Fit a small generator to the mean embeddings and pretrain the diffusion model on its
    images, or on what else the recipe names. Costs nothing."""
    from dagster_project.evaluation.plots import data_uri, image_grid, png_bytes
    from dagster_project.pipeline import pretrained_checkpoint as library

    shown = {}
    if run.release.recipe.pretraining.source == "generator":
        grid = png_bytes(image_grid(library.preview(run.release, 48), columns=12))
        shown["generator's images"] = dg.MetadataValue.md(f"![images]({data_uri(grid)})")
    return {
        **shown,
        "epsilon": 0.0,
        "data_version": run.release.ledger.committed(run.release.id, "pretrained_checkpoint").files[
            library.result(run.release)
        ],
    }
