"""The private comparison with the real data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from dagster_project.orchestration.stage import StageRun, stage


class ReportConfig(dg.Config):
    """Feature extractor of the Fréchet distance."""

    extractor: Literal["efficientnet-lite0", "inception-v3", "pixels"] = "efficientnet-lite0"
    weights: str | None = Field(None, description="Local file of Inception-v3 weights.")


@stage(config=ReportConfig)
def fidelity_report(run: StageRun, config: ReportConfig) -> Mapping[str, Any]:
    """Compare the release with the real pairs: images side by side, distances, predictors. The
    report is not differentially private and stays in the private zone."""
    from dagster_project.pipeline import fidelity_report as library
    from dagster_project.pipeline import synthetic_release

    release = run.release
    figures = library.make(
        release,
        synthetic_release.newest_bundle(release),
        extractor=config.extractor,
        weights=config.weights,
        seconds=dict(run.seconds),
        progress=run.progress,
    )
    mlflow_run = synthetic_release.mlflow_run(release)
    if mlflow_run is not None and figures is not None:
        run.tracking.log_fidelity(mlflow_run, figures, public=release.schema.public)
    metadata: dict[str, Any] = {
        "report": dg.MetadataValue.path(str(release.private / "fidelity_report.html")),
    }
    if release.schema.public and figures is not None:
        metadata |= {
            "auc_mean": figures.auc_mean,
            "auc_ceiling": figures.auc_ceiling,
            "tvd_2way": figures.tvd_2way,
            figures.fd_extractor: figures.fd,
        }
    return metadata
