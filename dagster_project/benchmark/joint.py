"""Common parts of the joint baselines: plan, compute budget, and pairs from images and cells.

The joint baselines have their own mechanisms and no table model; the same planner as for all other
methods calibrates them. Training under DP-SGD is in `private_network`.

Baselines of DP-TabImage (Chen, Lamp, Wang, Jha, arXiv 2609.00708, 2026).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from dagster_project.benchmark import budget
from dagster_project.benchmark.cache import shared
from dagster_project.benchmark.method import MethodRequest
from dagster_project.benchmark.rehearsal import random_pairs
from dagster_project.benchmark.staged import OPEN, recipe_steps, within_limits
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.image.detail import enlarge
from dagster_project.pipeline.order import release_code
from dagster_project.pipeline.release import Compute, Release
from dagster_project.planning.planner import build_plan, dp_sgd_steps
from dagster_project.planning.provenance import code_version
from dagster_project.privacy.plan import Plan, PlannedMechanism
from dagster_project.settings.recipe import Recipe

# No mean pairs, no pretraining, no rounds of a table model.
_RECIPE = Recipe().changed(
    {"budget_split.pairs": 0, "pretraining.source": "none", "table.rounds": 0}
)


class Joint(ABC):
    """A method with its own mechanisms.

    Attributes:
        title: Description in one line.
        part: Setting that holds the number of training steps.
        few, many: Steps of the two runs that measure the cost of a step.
    """

    title: ClassVar[str]
    part: ClassVar[str] = OPEN
    few: ClassVar[int] = 1
    many: ClassVar[int] = 3

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def mechanisms(self, schema: Schema, recipe: Recipe, mu: float) -> tuple[PlannedMechanism, ...]:
        """Return everything that touches private data, with the noise that `mu` determines."""

    @abstractmethod
    def rehearse(self, schema: Schema, recipe: Recipe, compute: Compute, pairs: Pairs) -> None:
        """Train for the recipe's steps on random pairs; charges no ledger."""

    @abstractmethod
    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        """See `Method`."""

    def plan(self, request: MethodRequest) -> Plan:
        """See `Method`."""
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
            mechanisms=self.mechanisms,
        )

    def _recipe(self, request: MethodRequest) -> Recipe:
        seed = {"public_seed": request.seed}
        if request.recipe is not None:
            return Recipe.restored(request.recipe).changed(seed)
        recipe = _RECIPE.changed(dict(request.settings))
        wanted = recipe_steps(recipe, self.part)
        if request.budget_seconds is not None:
            steps = budget.allot(
                {self.part: self._cost(request, recipe)},
                {
                    self.part: wanted
                    or dp_sgd_steps(recipe, request.epsilon, request.schema.n_public)
                },
                limit=request.budget_seconds,
                open_part=self.part if wanted is None else None,
            )
            recipe = recipe.changed(dict(steps))
        if wanted is None and self.part == OPEN:
            timed = recipe.dp_sgd.steps or dp_sgd_steps(
                recipe, request.epsilon, request.schema.n_public
            )
            recipe = recipe.changed({OPEN: within_limits(recipe, request, timed)})
        return recipe.changed(seed)

    def _cost(self, request: MethodRequest, recipe: Recipe) -> float:
        """Return the CPU seconds of one step, measured once on two batches of random pairs."""
        schema = replace(request.schema, n_public=2 * recipe.dp_sgd.batch)

        def run(steps: int) -> None:
            short = recipe.changed({self.part: steps, "public_seed": 0})
            self.rehearse(schema, short, request.compute, random_pairs(schema))

        def make(folder: Path) -> None:
            cost = budget.seconds_per_step(run, few=self.few, many=self.many)
            (folder / "cost.json").write_text(json.dumps(cost))

        anything = recipe.changed({self.part: 1, "public_seed": 0})
        made_from = {
            "method": self.name,
            "recipe": anything.model_dump(mode="json"),
            "schema": schema.hash,
            "compute": asdict(request.compute),
            "threads": torch.get_num_threads(),
            "code": code_version(type(self).__module__),
        }
        folder = shared(request.cache, "cost", made_from, make)
        return json.loads((folder / "cost.json").read_text())


def synthetic_pairs(schema: Schema, images: torch.Tensor, codes: np.ndarray, seed: int) -> Pairs:
    """Return pairs as a reader of a bundle gets them.

    Args:
        schema: The public contract.
        images: (N, C, h, w) in [-1, 1]; smaller ones than the schema's are enlarged.
        codes: (N, d) cells.
        seed: Public seed of the values inside their bins.
    """
    images = (images.clamp(-1, 1) + 1) / 2
    size = (schema.image.height, schema.image.width)
    if images.shape[2:] != size:
        images = enlarge(images, size)
    frame = schema.to_columns(schema.decode(codes, np.random.default_rng([seed, 1])))
    return Pairs(
        images=(images * 255).round().to(torch.uint8).numpy(),
        codes=codes.astype(np.int16),
        values=np.stack([a.values(frame[a.column]) for a in schema.attributes], axis=1),
    )
