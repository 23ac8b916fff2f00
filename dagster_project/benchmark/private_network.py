"""DP-SGD of one network as a stage of a joint baseline: mechanism, training, sampling images.

The engine, its noise and its Poisson batches are those of a release (`image.dp_sgd`, which proves
the sensitivity); this module only turns a network and its loss into a charged stage.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress, silent
from dagster_project.data.schema import ImageSpec, Schema
from dagster_project.image import edm
from dagster_project.image.coarse import coarse_size, pool
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.edm import LEVELS
from dagster_project.image.gradients import Kind, fastest, per_example_engine
from dagster_project.image.layers import Losses
from dagster_project.image.microbatches import fixed_microbatches, microbatch_size, own_draws
from dagster_project.image.training_state import TrainingState
from dagster_project.pipeline.drawing import hash_seed
from dagster_project.pipeline.image_model import PASSES, load_state, save_state
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.plan import PlannedMechanism
from dagster_project.settings.recipe import Recipe

_FORWARD = 500  # images per forward pass


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network and how to train it.

    Attributes:
        model: The network, with public initial weights.
        losses: Losses (B,) of people from their tensors.
        tensors: Function of some people and fresh randomness that returns tensors with one entry
            per person. The randomness is for the diffusion; the privacy noise is drawn elsewhere.
        learning_rate: Adam's initial learning rate.
    """

    model: nn.Module
    losses: Losses
    tensors: Callable[[Pairs, torch.Generator], dict[str, torch.Tensor]]
    learning_rate: float


def mechanism(
    name: str, schema: Schema, recipe: Recipe, *, mu: float, share: float
) -> PlannedMechanism:
    """Return DP-SGD with a share of mu^2 as a stage named `name`; replays are paid for."""
    found = DPSGD.from_budget(schema, recipe, mu=mu, share=share, name=name, stage=name)
    assert found is not None  # it has a share
    return found.entry()


def train(release: Release, stage: str, training: Training, progress: Progress) -> nn.Module:
    """Spend the stage's mechanism and return the released network; resumes after a crash."""
    dp_sgd, generator = release.mechanism(DPSGD, stage), SecureGenerator()
    file, folder = release.models / f"{stage}.safetensors", release.private / stage

    def run() -> None:
        averaged = _run(
            training,
            load_train(release),
            dp_sgd,
            release.recipe,
            release.compute,
            authorise=lambda first, end: release.ledger.authorise_steps(
                release.id, stage, first, end - 1
            ),
            save=lambda state: save_state(folder, state),
            resume=load_state(folder),
            generator=generator,
            progress=progress,
        )
        dp_sgd.verify(generator.uses)
        save_file({n: p.cpu().contiguous() for n, p in averaged.items()}, file)

    executed = {stage: dp_sgd.parameters()}
    release.once(stage, run, executed=executed, files=(file.name,), parents=())
    shutil.rmtree(folder, ignore_errors=True)
    training.model.load_state_dict(load_file(file))
    return training.model.eval()


def rehearse(training: Training, pairs: Pairs, recipe: Recipe, compute: Compute) -> None:
    """Run the same training on random pairs; charges no ledger."""
    sgd = recipe.dp_sgd
    if sgd.steps is None:
        raise ValueError("the steps of DP-SGD are not fixed yet")
    rate = min(1.0, sgd.batch / len(pairs))
    mechanism = DPSGD(
        noise_multiplier=1.0,
        max_grad_norm=sgd.max_grad_norm,
        sample_rate=rate,
        expected_batch_size=rate * len(pairs),
        steps=sgd.steps,
        replay_steps=0,
    )
    _run(training, pairs, mechanism, recipe, compute, generator=SecureGenerator())


def _run(
    training: Training,
    pairs: Pairs,
    dp_sgd: DPSGD,
    recipe: Recipe,
    compute: Compute,
    *,
    generator: SecureGenerator,
    authorise: Callable[[int, int], None] = lambda first, end: None,
    save: Callable[[TrainingState], None] = lambda state: None,
    resume: TrainingState | None = None,
    progress: Progress = silent,
) -> dict[str, torch.Tensor]:
    sgd, device = recipe.dp_sgd, compute.torch_device
    model = training.model.to(device)
    chunk = microbatch_size(
        sgd.noise_draws,
        passes=PASSES,
        batch=dp_sgd.expected_batch_size,
        memory_bytes=compute.memory_gb * 1e9,
        parameters=sum(p.numel() for p in model.parameters()),
        on_gpu=device.type == "cuda",
    )
    make = partial(_microbatches, training, pairs, chunk=chunk, device=device)
    kind: Kind = "vmap" if sgd.engine == "auto" else sgd.engine
    for batch in make(np.arange(min(1, len(pairs)))):  # for its shapes
        if sgd.engine == "auto":
            batch.pop("present")
            kind = fastest(model, training.losses, batch)
    with compute.autocast():
        return dp_sgd.run(
            model,
            per_example_engine(model, training.losses, kind),
            make,
            len(pairs),
            learning_rate=training.learning_rate,
            ema_half_life=max(1.0, sgd.ema_half_life_share * dp_sgd.steps),
            checkpoint_steps=sgd.checkpoint_steps,
            authorise=authorise,
            save=save,
            resume=resume,
            generator=generator,
            progress=progress,
        )


def _microbatches(
    training: Training, pairs: Pairs, chosen: np.ndarray, *, chunk: int, device: torch.device
) -> Iterator[dict[str, torch.Tensor]]:
    key = os.urandom(32)
    for indices, present in fixed_microbatches(chosen, chunk):
        own = [
            training.tensors(pairs.take(one), own_draws(key, pairs.images[one], pairs.codes[one]))
            for one in np.split(indices, len(indices))
        ]
        batch = {name: torch.cat([person[name] for person in own]) for name in own[0]}
        batch["present"] = present
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def drawn_size(schema: Schema, recipe: Recipe) -> ImageSpec:
    """Return the images' specification at the size that the network draws.

    With the two-scale model the network sees and draws coarse images, as that of the staged methods
    does; they are enlarged, because nothing released says what detail looks like.
    """
    image = schema.image
    if recipe.sampler.model != "two_scale":
        return image
    height, width = coarse_size(image.height, image.width, recipe.coarse)
    return replace(image, height=height, width=width)


def images(pairs: Pairs, size: ImageSpec) -> torch.Tensor:
    """Return the images as (N, C, size.height, size.width) in [-1, 1]."""
    full = torch.from_numpy(np.ascontiguousarray(pairs.images)).float() / 127.5 - 1
    return pool(full, (size.height, size.width))


@torch.no_grad()
def draw(
    release: Release, network: nn.Module, shape: tuple[int, int, int], n: int, seed: int
) -> torch.Tensor:
    """Return `n` samples of an unconditional diffusion, (n, *shape) in [-1, 1]."""
    settings = release.recipe.sampler.model_copy(update={"guidance": 1.0})  # there is no record
    device, drawn = release.compute.torch_device, []
    network = network.to(device)
    for start in range(0, n, _FORWARD):
        count = min(_FORWARD, n - start)
        with release.compute.autocast():
            drawn.append(
                edm.sample(
                    network,
                    torch.zeros(count, 0, device=device),
                    shape,
                    levels=LEVELS,
                    settings=settings,
                    generator=torch.Generator().manual_seed(hash_seed(seed, start)),
                )
            )
    return torch.cat([part.float().cpu() for part in drawn])


class GroupNormEncoder(nn.Module):
    """(B, C, H, W) in [-1, 1] -> (B, size): three strided convolutions with GroupNorm only."""

    def __init__(self, image: ImageSpec, size: int) -> None:
        super().__init__()
        cells = -(-image.height // 8) * -(-image.width // 8)
        layers: list[nn.Module] = []
        for inputs, outputs in ((image.channels, 32), (32, 64), (64, 64)):
            layers.append(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1))
            layers += [nn.GroupNorm(8, outputs), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * cells, size), nn.SiLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)
