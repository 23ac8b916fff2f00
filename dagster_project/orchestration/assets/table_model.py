"""The private model of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def table_model(run: StageRun) -> Mapping[str, Any]:
    """Fit the table by AIM (or MST): marginals chosen by the exponential mechanism and measured
    with discrete Gaussian noise, and the graphical model that explains them."""
    import numpy as np

    from dagster_project.evaluation.plots import data_uri, marginal_bars
    from dagster_project.pipeline import table_model as library

    fitted = library.load(run.release)
    records = fitted.model.sample(20_000, np.random.default_rng(0))
    figure = marginal_bars(run.release.schema, {"table model": records})
    return {
        "marginals": dg.MetadataValue.md(f"![marginals]({data_uri(figure)})"),
        "measured": ", ".join(" x ".join(m.names) for m in fitted.measurements),
        "cliques": ", ".join(" x ".join(c) for c in fitted.model.cliques),
        "data_version": run.release.ledger.committed(run.release.id, "table_model").files[
            "table_model/model.npz"
        ],
    }
