"""The diffusion model, fine-tuned on the real pairs by DP-SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage(zone="dp", after=["pretrained_checkpoint", "pairs"], pool="gpu")
def image_model(run: StageRun) -> Mapping[str, Any]:
    """Fine-tunes by DP-SGD: Poisson batches, per-example clipping, noise from the operating
    system. Steps are authorised in the ledger before they run; a crash resumes. A plan with no
    such steps takes the warmed-up model as it is."""
    from dagster_project.pipeline import image_model as library

    library.train(run.release, run.progress)
    spends = run.release.spends("image_model")
    declared = run.release.declared("image_model") if spends else {"steps": 0}
    return {
        name: declared[name]
        for name in ("steps", "noise_multiplier", "sample_rate")
        if name in declared
    } | {
        "parameters": sum(p.numel() for p in library.load(run.release).parameters()),
        "data_version": run.release.ledger.committed(run.release.id, "image_model").files[
            library.FILES[0]
        ],
    }
