"""The Poisson sample of the private pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def subsample(run: StageRun) -> Mapping[str, Any]:
    """Draw the Poisson sample for the mean pairs, with a fresh key from the operating system.
    mean_pairs reads the sample once and destroys it."""
    from dagster_project.image.mean_pairs import CellSums

    release = run.release
    spends = release.spends("mean_pairs")
    return {
        "sample_rate": release.mechanism(CellSums).sample_rate if spends else 0,
        "data_version": release.id,
    }
