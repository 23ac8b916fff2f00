"""The pool of public images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def public_images(run: StageRun) -> Mapping[str, Any]:
    """Read or draw the pool that the recipe names, and fit a classifier of its labels. Reads
    nothing private; the user states that the pool is public."""
    from dagster_project.pipeline import public_images as library

    facts = library.facts(run.release)
    if facts is None:
        return {"pool": "none", "data_version": "none"}
    return {
        "pool": facts["name"],
        "images": facts["images"],
        "labels": facts["labels"],
        "statement": facts["statement"],
        "data_version": facts["sha256"],
    }
