"""A preset of the released pipeline as a method, which runs the stages of a release in order.

Each preset is one configuration of the same stages. Systems without a preset need their own
mechanisms and have their own files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from dagster_project.benchmark import budget
from dagster_project.benchmark.method import MethodRequest
from dagster_project.benchmark.rehearsal import stage_costs
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress, part, silent
from dagster_project.pipeline import synthetic_release
from dagster_project.pipeline.fidelity_report import read_bundle
from dagster_project.pipeline.order import between, release_code
from dagster_project.pipeline.release import Release
from dagster_project.planning.planner import build_plan, coarse_steps, with_steps
from dagster_project.privacy.plan import Plan
from dagster_project.settings.presets import preset
from dagster_project.settings.recipe import Recipe

TITLES = {
    "default": "this project's release: mean pairs, coarse images by DP-SGD, detail from means",
    "nosgd": "the default at the same epsilon without DP-SGD",
    "published": "DP-TabImage as published: mean pairs of a 5 % subsample, pretraining, DP-SGD",
    "base": "table model and DP-SGD, no pretraining",
    "indep": "table model and images that are independent of it",
    "randimg": "pretraining on random images of the same kind as mean pairs",
    "attrimg": "pretraining on images by attribute",
    "privimage": "public images chosen by a private query, then DP-SGD",
}
OPEN = "dp_sgd.steps"  # if the recipe leaves it open, it takes the rest of the budget


class Staged:
    """A preset run through the stages of a release."""

    def __init__(self, name: str) -> None:
        self.name, self.title = name, TITLES[name]

    def plan(self, request: MethodRequest) -> Plan:
        return build_plan(
            request.schema,
            self._recipe(request),
            name=self.name,
            target_epsilon=request.epsilon,
            target_delta=request.delta,
            population=request.population.name,
            data_version=request.data_version,
            code_version=release_code(),
            identity_key=request.population.member_key(),
        )

    def _recipe(self, request: MethodRequest) -> Recipe:
        seed = {"public_seed": request.seed}
        if request.recipe is not None:
            return Recipe.restored(request.recipe).changed(seed)
        recipe = preset(self.name).changed(dict(request.settings))
        if request.budget_seconds is not None:
            filled = with_steps(recipe, request.epsilon, request.schema.n_public)
            recipe = recipe.changed({"sampler.model": filled.sampler.model})
            costs = stage_costs(request.schema, recipe, request.compute, cache=request.cache)
            recipe = recipe.changed(_steps(recipe, costs, request))
        return recipe.changed(seed)

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        shares = {
            "pretrained_checkpoint": (0.15, 0.4),
            "image_model": (0.4, 0.6),
            "detail_model": (0.6, 0.9),
        }
        for stage in between("public_images", "detail_model"):
            if stage.name != "pairs":  # already read, for all methods
                told = part(progress, *shares[stage.name]) if stage.name in shares else silent
                stage.run(release, told)
        with tempfile.TemporaryDirectory(dir=release.root) as folder:
            bundle = Path(folder) / "bundle"
            synthetic_release.make(release, bundle, n=n, seed=seed, progress=silent)
            progress(1.0, "synthetic pairs")
            return read_bundle(bundle, release.schema, most=n)


def _steps(recipe: Recipe, costs: dict[str, float], request: MethodRequest) -> dict[str, int]:
    filled = with_steps(recipe, request.epsilon, request.schema.n_public)
    steps = {name: recipe_steps(filled, name) or 0 for name in costs}
    if filled.sampler.model == "generator":
        steps["pretraining.steps"] = 0
    is_open = recipe.dp_sgd.steps is None and bool(steps.get(OPEN))
    allotted = budget.allot(
        {name: cost for name, cost in costs.items() if steps[name]},
        steps,
        limit=request.budget_seconds or 0.0,
        open_part=OPEN if is_open else None,
    )
    if is_open:
        allotted[OPEN] = within_limits(recipe, request, allotted[OPEN])
    return allotted


def within_limits(recipe: Recipe, request: MethodRequest, timed: int) -> int:
    """Return the steps of DP-SGD that a time pays for, within the recipe's and the noise's limits.

    Where the time pays for fewer steps than teach anything, they are taken nevertheless: the
    comparison then shows what the method is in this time.
    """
    most = min(timed, recipe.dp_sgd.most_steps or timed)
    if recipe.sampler.model != "two_scale":
        return most
    limited = recipe.changed({"dp_sgd.most_steps": most})
    return coarse_steps(limited, request.epsilon, request.schema.n_public) or most


def recipe_steps(recipe: Recipe, name: str) -> int | None:
    """Return the steps of a part of a recipe by dotted name, or None if they are open."""
    section, _, field = name.partition(".")
    return getattr(getattr(recipe, section), field)
