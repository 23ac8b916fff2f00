"""`--train-minutes`: the steps of DP-SGD that a time pays for on this machine, by a measurement."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def most_steps(
    options: argparse.Namespace, settings: Mapping[str, Any], *, root: Path, data: Path
) -> int:
    """Return how many steps of DP-SGD take as long as the option says.

    A step is timed on drawn input, so the number is public. The measurement is kept under the
    root, so that a request that is repeated, to continue a release, is the same request.

    Raises:
        ValueError: The time is not positive, is too short for a step, or the steps are set too.
    """
    from dagster_project.benchmark.rehearsal import training_seconds
    from dagster_project.data.schema import Schema
    from dagster_project.pipeline.release import Compute
    from dagster_project.planning.planner import with_steps
    from dagster_project.settings.presets import preset

    if "dp_sgd.steps" in settings or "dp_sgd.most_steps" in settings:
        raise ValueError("give either --train-minutes or the steps of DP-SGD, not both")
    if not options.train_minutes > 0:
        raise ValueError("--train-minutes must be positive")
    schema = Schema.from_file(data / "schema.yaml")
    recipe = preset(options.preset).changed(dict(settings))
    if not recipe.budget_split.image:
        raise ValueError("--train-minutes needs a recipe with DP-SGD, which this one is without")
    # The number of steps does not matter here, only what draws the images.
    recipe = with_steps(recipe.changed({"dp_sgd.steps": 1}), options.epsilon, schema.n_public)
    seconds = training_seconds(
        schema,
        recipe,
        Compute(device=getattr(options, "device", "auto")),
        cache=root / ".dagster" / "costs",
    )
    steps = int(60 * options.train_minutes / seconds)
    if not steps:
        raise ValueError(
            f"a step of DP-SGD takes {seconds:.2g} s here: --train-minutes is too short"
        )
    return steps
