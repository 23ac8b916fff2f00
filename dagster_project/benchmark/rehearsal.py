"""Cost of a recipe's training steps, measured by running the stages on random pairs.

The stages are the real ones, so that the measurement follows any change to them; the pairs are
noise in the schema's shape. No private record is read and no ledger is touched.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache as cache_call
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from dagster_project.benchmark import budget
from dagster_project.benchmark.cache import shared
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress, silent
from dagster_project.data.schema import Schema
from dagster_project.ledger import Stage
from dagster_project.pipeline import (
    detail_model,
    image_model,
    pretrained_checkpoint,
    public_checkpoint,
)
from dagster_project.pipeline.order import between, release_code
from dagster_project.pipeline.release import Compute, Release
from dagster_project.planning.mechanisms import mechanisms
from dagster_project.planning.planner import DISCRETIZATION
from dagster_project.privacy.plan import Plan
from dagster_project.settings.recipe import Recipe

# Part -> its stage, few and many of its steps, and the sections of a recipe that determine
# the cost of a step: methods that share them get the same cost.
_PARTS: dict[str, tuple[Callable[[Release, Progress], object], int, int, tuple[str, ...]]] = {
    "public_training.steps": (
        public_checkpoint.make, 2, 12, ("network", "public_training", "public_images"),
    ),
    "image_generator.steps": (
        pretrained_checkpoint.make, 2, 32, ("image_generator", "mean_pairs", "pretraining"),
    ),
    "image_generator.perceptual_steps": (
        pretrained_checkpoint.make, 2, 12, ("image_generator", "mean_pairs", "pretraining"),
    ),
    "pretraining.steps": (
        pretrained_checkpoint.make, 2, 12, ("network", "coarse", "pretraining"),
    ),
    "dp_sgd.steps": (image_model.train, 1, 3, ("network", "coarse", "dp_sgd")),
    "detail.steps": (detail_model.fit, 2, 6, ("coarse", "detail", "mean_pairs", "sampler")),
}  # fmt: skip
_SHORT = {
    "table.rounds": 1,
    "table.iterations": 5,
    "table.final_iterations": 5,
    # No cell is left out: pretraining with nothing to learn from would seem to be free.
    "mean_pairs.minimum_count": 0.0,
    "mean_pairs.maximum_noise": 1e9,
    "mean_pairs.sample_rate": 1.0,
    "pretraining.images": 1000,
    "pretraining.procedural": 100,
    "image_generator.steps": 2,
    "image_generator.perceptual_steps": 2,
    "pretraining.steps": 2,
    "coarse.finisher_steps": 1,
    "dp_sgd.steps": 1,
    "dp_sgd.replays": 0,
    "detail.images": 32,
    "detail.steps": 2,
}
# A small pool and fast features, neither of which changes the cost of a step.
_SMALL_POOL = {
    "public_images.source": "procedural",
    "public_images.images": 200,
    "public_images.extractor": "pixels",
    "public_training.images": 1000,
    "public_training.steps": 2,
}


def stage_costs(
    schema: Schema, recipe: Recipe, compute: Compute, *, cache: Path
) -> dict[str, float]:
    """Return the CPU seconds of one training step, by the setting that holds the step count.

    Args:
        schema: The public contract, which gives the shape of images and records.
        recipe: The recipe, which gives networks and batches; its step counts are ignored.
        compute: Device of the networks.
        cache: Folder of shared work; each measurement is made once.
    """
    has_pool = recipe.public_images.source is not None
    # A part that does not run would seem to cost nothing.
    absent = {
        "public_training.steps": not has_pool,
        "image_generator.perceptual_steps": not recipe.mean_pairs.perceptual_share,
        "dp_sgd.steps": not recipe.budget_split.image,
        "pretraining.steps": recipe.sampler.model == "generator",
        "detail.steps": not detail_model.used_by(recipe),
    }
    one_column = {"table.rounds": 0} if len(schema.sizes) == 1 else {}
    small_pool = _SMALL_POOL if has_pool else {}
    short = recipe.changed({**_SHORT, **one_column, **small_pool, "public_seed": 0})
    sections = short.model_dump(mode="json")
    with ExitStack() as stack:
        rehearsed = cache_call(lambda: stack.enter_context(_rehearsed(schema, short, compute)))
        costs = {}
        for name, (stage, few, many, decided_by) in _PARTS.items():
            if absent.get(name):
                continue

            def make(
                folder: Path, name: str = name, stage: Any = stage, few: int = few, many: int = many
            ) -> None:
                release = rehearsed()
                cost = budget.seconds_per_step(
                    lambda steps: stage(release.with_steps(name, steps), silent),
                    few=few,
                    many=many,
                )
                (folder / "cost.json").write_text(json.dumps(cost))

            made_from = {
                "part": name,
                "recipe": {section: sections[section] for section in decided_by},
                "schema": schema.hash,
                "compute": asdict(compute),
                "threads": torch.get_num_threads(),
                "code": release_code(),
            }
            folder = shared(cache, "cost", made_from, make)
            costs[name] = json.loads((folder / "cost.json").read_text())
    return costs


def training_seconds(schema: Schema, recipe: Recipe, compute: Compute, *, cache: Path) -> float:
    """Return the wall seconds of one step of DP-SGD, measured once.

    Another number would be another plan, which is charged anew. So a release continues with the
    number that is kept, also in another container or with another number of threads.

    Args:
        schema: The public contract, which gives the shape of images and records.
        recipe: The recipe, with its way of drawing images set; its step counts are ignored.
        compute: Device of the networks.
        cache: Folder that keeps the measurement.
    """
    # What comes before DP-SGD costs time here and does not change its steps.
    quick = {"mean_pairs.perceptual_share": 0.0}
    short = recipe.changed({**_SHORT, **quick, "public_seed": 0})
    sections = short.model_dump(mode="json")

    def make(folder: Path) -> None:
        with _rehearsed(schema, short, compute) as release:
            cost = budget.seconds_per_step(
                lambda steps: image_model.train(release.with_steps("dp_sgd.steps", steps), silent),
                few=1,
                many=4,
                clock=time.perf_counter,
            )
        (folder / "cost.json").write_text(json.dumps(cost))

    made_from = {
        "part": "seconds of a step of DP-SGD",
        "recipe": {section: sections[section] for section in ("network", "coarse", "dp_sgd")},
        "schema": schema.hash,
        "compute": asdict(replace(compute, device=compute.torch_device.type)),
        "code": release_code(),
    }
    found: float = json.loads((shared(cache, "cost", made_from, make) / "cost.json").read_text())
    return found


@contextmanager
def _rehearsed(schema: Schema, recipe: Recipe, compute: Compute) -> Iterator[_Rehearsal]:
    """Yield a release of random pairs whose stages have all run once, briefly."""
    # Twice as many people as a batch holds, so that batches have their usual size for any n.
    small = replace(schema, n_public=2 * recipe.dp_sgd.batch)
    with tempfile.TemporaryDirectory() as root:
        release = _Rehearsal(
            plan=_plan(small, recipe),
            schema=small,
            ledger=_NO_LEDGER,
            root=Path(root),
            compute=compute,
        )
        release.models.mkdir(parents=True)
        random_pairs(small).save(release.private / "train")
        last = "image_model" if detail_model.used(release) else "pretrained_checkpoint"
        for stage in between("public_images", last):
            if stage.name != "pairs":
                stage.run(release, silent)
        yield release


_NO_LEDGER: Any = SimpleNamespace(
    authorise_steps=lambda *arguments: None,
    committed=lambda *arguments: None,
    release=lambda *arguments: SimpleNamespace(stages={"mean_pairs": Stage()}),  # never begun
)


@dataclass(frozen=True, kw_only=True)
class _Rehearsal(Release):
    """Release of random pairs that charges no ledger."""

    def once(
        self,
        stage: str,
        run: Callable[..., None],
        *,
        executed: Mapping[str, Mapping[str, Any]] | None,
        files: Iterable[str],
        parents: Iterable[str],
        prepare: Callable[[], Any] | None = None,
    ) -> bool:
        run(*([prepare()] if prepare else []))
        return True

    def with_steps(self, name: str, steps: int) -> _Rehearsal:
        return replace(self, plan=_plan(self.schema, self.recipe.changed({name: steps})))


def _plan(schema: Schema, recipe: Recipe) -> Plan:
    """Return a plan at a fixed noise scale, since the noise does not change a step's cost."""
    return Plan(
        release_id="rehearsal",
        population="nobody",
        data_version="drawn",
        schema_hash=schema.hash,
        code_version=release_code(),
        target_epsilon=1.0,
        target_delta=1e-6,
        n_public=schema.n_public,
        discretization=DISCRETIZATION,
        mechanisms=mechanisms(schema, recipe, 1.0),
        composed_epsilon=1.0,
        recipe=recipe.model_dump(mode="json"),
    )


def random_pairs(schema: Schema) -> Pairs:
    """Return `n_public` pairs of noise in the schema's shape."""
    rng, image, n = np.random.default_rng(0), schema.image, schema.n_public
    codes = np.stack([rng.integers(size, size=n) for size in schema.sizes], axis=1)
    shape = (n, image.channels, image.height, image.width)
    return Pairs(
        images=rng.integers(256, size=shape, dtype=np.uint8),
        codes=codes.astype(np.int16),
        values=codes.astype(np.float32),
    )
