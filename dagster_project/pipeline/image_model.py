"""Fine-tunes the pretrained diffusion model on the real pairs by DP-SGD."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dagster_project.compute.workers import Workers
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.image import edm
from dagster_project.image.coarse import pool
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.edm import LEVELS
from dagster_project.image.generator import ImageGenerator
from dagster_project.image.gradients import Kind, fastest, ignores_places, per_example_engine
from dagster_project.image.microbatches import (
    GROUP,
    fixed_microbatches,
    microbatch_size,
    own_draws,
)
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.private_training import Microbatch
from dagster_project.image.shared_steps import Job, Prepared, shared_step
from dagster_project.image.training_state import TrainingState
from dagster_project.image.unet import UNet
from dagster_project.pipeline import pretrained_checkpoint
from dagster_project.pipeline.pairs import load_train, train_folder
from dagster_project.pipeline.release import Drawable, Models, Release
from dagster_project.privacy.noise import SecureGenerator

FILES = ("image_model.safetensors",)
# Network passes at once that are fastest on a CPU core: of the U-Net, 64 took 1.5 times as long for
# each; of the coarse network, 32 took twice as long.
PASSES, COARSE_PASSES = 32, 128


def train(release: Release, progress: Progress) -> bool:
    """Spend the `image_model` mechanism and write `models/<id>/image_model.safetensors`.

    Resumes from the last checkpoint after a crash; steps drawn again come from the replays that
    the plan has paid for. Without the mechanism in the plan, the pretrained model is released.
    """
    if not release.spends("image_model"):

        def keep() -> None:
            shutil.copyfile(release.models / pretrained_checkpoint.result(release), _file(release))

        return release.once(
            "image_model", keep, executed=None, files=FILES, parents=("pretrained_checkpoint",)
        )
    mechanism, stack = release.mechanism(DPSGD), ExitStack()
    with stack:
        ran = release.once(
            "image_model",
            lambda workers: run_steps(release, mechanism, workers, progress),
            executed={mechanism.name: mechanism.parameters()},
            files=FILES,
            parents=("pretrained_checkpoint",),
            prepare=lambda: stack.enter_context(release.compute.open_workers()),
        )
    shutil.rmtree(release.private / "image_model", ignore_errors=True)
    return ran


def run_steps(release: Release, mechanism: DPSGD, workers: Workers, progress: Progress) -> None:
    """Run DP-SGD and write the released network."""
    recipe, compute = release.recipe.dp_sgd, release.compute
    networks = release.public_models()
    # With workers elsewhere, this process only adds up, which needs no GPU.
    own = networks if workers.here else replace(networks, compute=replace(compute, device="cpu"))
    device, train = own.compute.torch_device, train_folder(release)
    model = pretrained_checkpoint.load(own).to(device)
    people = microbatch_people(networks, model, batch=mechanism.expected_batch_size)
    # Chosen once for all workers: gradients of two engines differ in their last bits.
    drawn = drawn_batch(own, people, device)
    kind = chosen_engine(recipe.engine, model, drawn)
    with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
        if not ignores_places(per_example_engine(model, losses, kind), drawn):
            people = 1
    model, engine, local = prepared(own, train, kind, people)
    make: Callable[[np.ndarray], Iterator[Microbatch]] = local
    if not workers.here:
        job = Job(
            prepare=partial(prepared, networks, train, kind, people),
            mechanism=mechanism,
            microbatch=people,
            autocast=compute.autocast,
        )
        make = shared_step(job, model, workers)
    folder, generator = release.private / "image_model", SecureGenerator()
    with compute.autocast():
        averaged = mechanism.run(
            model,
            engine,
            make,
            len(load_train(release)),
            learning_rate=recipe.learning_rate,
            ema_half_life=max(1.0, recipe.ema_half_life_share * mechanism.steps),
            checkpoint_steps=recipe.checkpoint_steps,
            authorise=lambda first, end: release.ledger.authorise_steps(
                release.id, "image_model", first, end - 1
            ),
            save=lambda state: save_state(folder, state),
            resume=load_state(folder),
            generator=generator,
            progress=progress,
        )
    mechanism.verify(generator.uses)
    save_file({n: p.cpu().contiguous() for n, p in averaged.items()}, _file(release))


def prepared(networks: Models, train: Path, kind: Kind, people: int) -> Prepared:
    """Return the pretrained network, its engine and a function that makes microbatches.

    Args:
        networks: The models so far, with the recipe and the device.
        train: Folder of the private training pairs.
        kind: The engine.
        people: People in a microbatch.
    """
    device = networks.compute.torch_device
    model = pretrained_checkpoint.load(networks).to(device)
    make = partial(microbatches, Pairs.load(train), networks, chunk=people, device=device)
    return model, per_example_engine(model, losses, kind), make


def microbatch_people(networks: Models, model: nn.Module, *, batch: float) -> int:
    """Return the number of people in a microbatch of a batch of so many."""
    return microbatch_size(
        networks.recipe.dp_sgd.noise_draws,
        passes=COARSE_PASSES if networks.two_scale else PASSES,
        batch=batch,
        memory_bytes=networks.compute.memory_gb * 1e9,
        parameters=sum(p.numel() for p in model.parameters()),
        on_gpu=networks.compute.torch_device.type == "cuda",
    )


def load(release: Drawable) -> UNet | PatchMixer | ImageGenerator:
    """Load the released network: of diffusion, or the generator."""
    if pretrained_checkpoint.draws_directly(release):
        return pretrained_checkpoint.load_generator(release, _file(release))
    model = release.new_network()
    model.load_state_dict(load_file(_file(release)))
    return model.eval()


def chosen_engine(
    choice: Literal["auto", "layers", "vmap", "loop"],
    model: nn.Module,
    batch: Mapping[str, torch.Tensor],
) -> Kind:
    """Resolve `auto` to the engine that is fastest for batches like `batch` on this machine."""
    return fastest(model, losses, batch) if choice == "auto" else choice


def drawn_batch(release: Drawable, people: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return random tensors in the form of a microbatch, to measure on."""
    shape, draws = release.diffusion_shape, release.recipe.dp_sgd.noise_draws
    batch = {
        "image": torch.rand(people, *shape),
        "record": torch.rand(people, release.schema.width),
        "sigma": torch.rand(people, draws) + 0.1,
        "noise": torch.randn(people, draws, *shape),
        "condition_mask": torch.ones(people, draws),
    }
    return {name: part.to(device) for name, part in batch.items()}


def losses(network: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss (B,) of each person's pair, averaged over its K noise draws."""
    return edm.losses_of_draws(
        network,
        *(batch[name] for name in ("image", "sigma", "noise", "record", "condition_mask")),
        sigma_data=LEVELS.sigma_data,
    )


def microbatches(
    pairs: Pairs,
    release: Drawable,
    chosen: np.ndarray,
    *,
    chunk: int,
    device: torch.device,
    key: bytes | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the tensors of one Poisson batch, `chunk` people at a time.

    Args:
        pairs: The private pairs.
        release: Recipe and schema.
        chosen: Indices of the people.
        chunk: People in a microbatch.
        device: Where the tensors are needed.
        key: The step's secret key; None draws a fresh one.
    """
    recipe, schema, key = release.recipe.dp_sgd, release.schema, key or os.urandom(32)
    shape, levels = release.diffusion_shape, release.training_levels

    def drawn(people: Pairs) -> tuple[torch.Tensor, ...]:
        """Noise levels (B, K), noise (B, K, C, H, W) and condition masks (B, K)."""
        k = recipe.noise_draws
        uniform = torch.empty(len(people), 2, k, dtype=torch.float64)
        noise = torch.empty(len(people), k, *shape)
        for row, person in enumerate(zip(people.images, people.codes, strict=True)):
            random = own_draws(key, *person)
            uniform[row].uniform_(generator=random)
            noise[row].normal_(generator=random)
        # In whole groups of rows, a place changes no bit (`microbatch_size`). Many groups at once
        # would be shared out among cores, at places that may lie within one.
        level, shown = uniform.unbind(dim=1)
        sigma = torch.cat([levels.at(part.contiguous()) for part in level.split(GROUP)])
        return sigma, noise, (shown >= recipe.condition_dropout).float()

    for indices, present in fixed_microbatches(chosen, chunk):
        people = pairs.take(indices)
        image = torch.from_numpy(np.ascontiguousarray(people.images)).float() / 127.5 - 1
        image = pool(image, shape[1:]) if release.two_scale else image
        sigma, noise, mask = drawn(people)
        batch = {
            "image": image,
            "record": torch.from_numpy(schema.one_hot(people.codes)),
            "sigma": sigma,
            "noise": noise,
            "condition_mask": mask,
            "present": present,
        }
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def save_state(folder: Path, state: TrainingState) -> None:
    """Write a checkpoint so that a crash leaves either the old or the new one, never a part."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {"step": torch.tensor(state.step)}
    for part in ("model", "ema", "moments"):
        tensors |= {f"{part}/{n}": t.cpu() for n, t in getattr(state, part).items()}
    pending = folder / "pending.safetensors"
    save_file(tensors, pending)
    pending.replace(folder / "state.safetensors")


def load_state(folder: Path) -> TrainingState | None:
    """Load the last checkpoint, or None if there is none yet."""
    file = folder / "state.safetensors"
    if not file.is_file():
        return None
    tensors = load_file(file)
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "ema": {}, "moments": {}}
    step = int(tensors.pop("step"))
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts[part][key] = tensor
    return TrainingState(step=step, **parts)


def _file(release: Drawable) -> Path:
    return release.models / FILES[0]
