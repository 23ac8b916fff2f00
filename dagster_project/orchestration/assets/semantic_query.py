"""The public labels that the private images resemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def semantic_query(run: StageRun) -> Mapping[str, Any]:
    """Count public labels of the private images by attribute value under Gaussian noise, or
    take them from the table model. Without a public pool it spends nothing."""
    from dagster_project.pipeline import semantic_query as library

    made = run.release.ledger.committed(run.release.id, "semantic_query")
    if made is None:
        return {"asked": False, "data_version": "none"}
    answer = library.load(run.release)
    return {
        "asked": True,
        "attribute values": len(answer.counts),
        "labels": answer.counts.shape[1],
        "noise": answer.noise_std,
        "data_version": made.files[library.ANSWER],
    }
