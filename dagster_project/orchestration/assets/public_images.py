"""The pool of public pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def public_images(run: StageRun) -> Mapping[str, Any]:
    """Reads or draws the pool that the recipe names, and fits a classifier of its labels. Reads
    nothing private; that the pool is public is the user's statement."""
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
