"""The diffusion model, fine-tuned on the real pairs by DP-SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def image_model(run: StageRun) -> Mapping[str, Any]:
    """Fine-tune by DP-SGD: Poisson batches, per-example clipping, noise from the operating
    system. The ledger authorises steps before they run; training resumes after a crash. A plan
    without DP-SGD steps uses the pretrained model unchanged."""
    from dagster_project.image.dp_sgd import DPSGD
    from dagster_project.pipeline import image_model as library

    shown: dict[str, Any] = {"steps": 0}
    if run.release.spends(DPSGD.name):
        dp_sgd = run.release.mechanism(DPSGD)
        shown = {
            "steps": dp_sgd.steps,
            "noise_multiplier": dp_sgd.noise_multiplier,
            "sample_rate": dp_sgd.sample_rate,
        }
    return shown | {
        "parameters": sum(p.numel() for p in library.load(run.release).parameters()),
        "data_version": run.release.ledger.committed(run.release.id, "image_model").files[
            library.FILES[0]
        ],
    }
