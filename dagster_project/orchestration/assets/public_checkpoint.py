"""The diffusion model, pretrained on the chosen public images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def public_checkpoint(run: StageRun) -> Mapping[str, Any]:
    """Pretrain on public images of the labels that the private images resemble, with records that
    belong to the labels. Post-processing: costs nothing."""
    from dagster_project.evaluation.plots import data_uri
    from dagster_project.pipeline import public_checkpoint as library

    made = run.release.ledger.committed(run.release.id, "public_checkpoint")
    if made is None:
        return {"images": 0, "data_version": "none"}
    selection = library.load(run.release)
    return {
        "chosen public images": dg.MetadataValue.md(
            f"![chosen public images]({data_uri(library.preview(run.release))})"
        ),
        "images": len(selection.images),
        "labels": len(selection.labels),
        "data_version": made.files[library.CHECKPOINT],
    }
