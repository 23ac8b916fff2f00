"""Noisy mean table-image pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def mean_pairs(run: StageRun) -> Mapping[str, Any]:
    """Release a noisy mean image and mean embedding for every attribute value by one Gaussian
    mechanism, each with the table model's conditional distributions as its soft record."""
    from dagster_project.evaluation.plots import data_uri, image_grid, png_bytes
    from dagster_project.pipeline import mean_pairs as library

    images, _ = library.mean_images(run.release)
    shown = {}
    if len(images):
        grid = png_bytes(image_grid((images * 255).round().astype("uint8"), columns=12))
        shown["mean images"] = dg.MetadataValue.md(f"![mean images]({data_uri(grid)})")
    return {
        **shown,
        "cells": len(images),
        "features": library.feature_map(run.release).size,
        "data_version": run.release.ledger.committed(run.release.id, "mean_pairs").files[
            library.FILES[0]
        ],
    }
