"""The noisy number of people that lets a release go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dagster_project.orchestration.stage import StageRun, stage


@stage()
def minimum_people(run: StageRun) -> Mapping[str, Any]:
    """Count the people under discrete Gaussian noise and end the release if they are too few,
    before anything else is spent. A plan without this count spends nothing here."""
    from dagster_project.pipeline import minimum_people as library

    release = run.release
    made = release.ledger.committed(release.id, "minimum_people")
    if made is None:
        return {"counted": False, "data_version": "none"}
    noisy = json.loads((release.models / library.COUNT).read_text())["people"]
    return {
        "counted": True,
        "people, with noise": noisy,
        "minimum": release.declared("minimum_people")["minimum"],
        "data_version": made.files[library.COUNT],
    }
