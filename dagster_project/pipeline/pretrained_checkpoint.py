"""Pretrains the diffusion model on released statistics, at no privacy cost.

The recipe's pretraining source turns what has been released into training examples. Without a
source or examples, the checkpoint is the unchanged network: untrained, or pretrained on public
images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional

from dagster_project.data.progress import Progress, silent
from dagster_project.image.coarse import pool
from dagster_project.image.generator import ImageGenerator, draw_images, fit_generator
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.pretraining import ByNoiseLevel, pretrain
from dagster_project.image.procedural import dead_leaves
from dagster_project.image.two_scale import FINISHER_BATCH, FINISHER_LEVELS, Finisher
from dagster_project.image.unet import UNet
from dagster_project.pipeline import mean_pairs, public_checkpoint, public_images, table_model
from dagster_project.pipeline.networks import save_network
from dagster_project.pipeline.release import Drawable, Release
from dagster_project.settings.diffusion import DiffusionTraining

CHECKPOINT, GENERATOR = "pretrained.safetensors", "generator.safetensors"
FINISHER = "finisher.safetensors"
_GENERATOR_PART = 0.5  # of the stage's time, for the progress bar


@dataclass(frozen=True, kw_only=True)
class Lessons:
    """The examples of `pretrain`: images in [-1, 1] of the size that diffusion draws, with records.

    `shift` is the largest random shift of the images, in pixels.
    """

    images: torch.Tensor
    records: torch.Tensor
    shift: int
    by_noise_level: ByNoiseLevel | None = None


def make(release: Release, progress: Progress) -> bool:
    """Write `models/<id>/pretrained.safetensors`, or only the generator if it draws the images.

    Reads nothing private.
    """

    def run() -> None:
        if draws_directly(release):
            _fit(release, progress)
            return
        lessons = _lessons(release, lambda f, text: progress(f * _GENERATOR_PART, text))
        model = public_checkpoint.start(release)
        if lessons is not None:
            device = release.compute.torch_device
            pretrain(
                model.to(device),
                lessons.images,
                lessons.records,
                settings=release.recipe.pretraining,
                shift=lessons.shift,
                seed=release.recipe.public_seed,
                levels=release.training_levels,
                device=device,
                progress=lambda f, text: progress(_GENERATOR_PART * (1 + f), text),
                by_noise_level=lessons.by_noise_level,
            )
        save_network(model, release.models / CHECKPOINT)
        if release.has_finisher and lessons is not None:
            save_network(_finisher(release, lessons), release.models / FINISHER)

    teaches = release.recipe.pretraining.source == "generator"
    return release.once(
        "pretrained_checkpoint",
        run,
        executed=None,
        files=tuple(
            dict.fromkeys(
                [*[GENERATOR] * teaches, result(release), *[FINISHER] * release.has_finisher]
            )
        ),
        parents=(
            "table_model",
            "mean_pairs",
            *public_images.stage_of(release, "public_checkpoint"),
        ),
    )


def draws_directly(release: Drawable) -> bool:
    """Return whether the generator draws the release's images itself."""
    return release.recipe.sampler.model == "generator"


def result(release: Release) -> str:
    """Return the name of the file that the image model starts from."""
    return GENERATOR if draws_directly(release) else CHECKPOINT


def load_generator(release: Drawable, file: Path) -> ImageGenerator:
    """Load a fitted generator in evaluation mode."""
    generator = ImageGenerator(
        release.schema.width, release.image_shape, release.recipe.image_generator
    )
    generator.load_state_dict(load_file(file))
    return generator.eval()


def load(release: Drawable) -> UNet | PatchMixer:
    """Load the pretrained network."""
    model = release.new_network()
    model.load_state_dict(load_file(release.models / CHECKPOINT))
    return model


def load_finisher(release: Drawable) -> Finisher:
    """Load the network that draws below the handover, in evaluation mode."""
    finisher = new_finisher(release)
    finisher.load_state_dict(load_file(release.models / FINISHER))
    return finisher.eval()


def new_finisher(release: Drawable) -> Finisher:
    """Return the untrained finisher, with public initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(release.recipe.public_seed)
        return Finisher(release.schema.width, release.schema.image.channels, release.recipe.coarse)


def draw_records(release: Release, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one-hot records of the table model, float32 (n, cells)."""
    return release.schema.one_hot(table_model.load(release).model.sample(n, rng))


def preview(release: Release, n: int) -> np.ndarray:
    """Draw some images of the generator, uint8 (n, C, H, W), if pretraining uses one."""
    rng = np.random.default_rng(release.recipe.public_seed)
    images = draw_images(
        load_generator(release, release.models / GENERATOR),
        draw_records(release, n, rng),
        generator=torch.Generator().manual_seed(release.recipe.public_seed),
    )
    return (images * 255).round().to(torch.uint8).numpy()


def _lessons(release: Release, progress: Progress) -> Lessons | None:
    settings = release.recipe.pretraining
    if settings.source == "none":
        return None
    means, soft = _mean_pairs(release)
    if settings.source == "mean_pairs":
        if not len(means):  # every cell was too small
            return None
        return Lessons(images=_sized(release, means), records=soft, shift=settings.shift)
    generator = _fit(release, progress)
    images, records = _images(release, generator)
    if release.two_scale:
        return Lessons(images=_sized(release, images), records=records, shift=0)
    further = ByNoiseLevel(
        mean_images=means,
        soft_records=soft,
        procedural=_procedural(release) if settings.procedural_sigma else means[:0],
        settings=settings,
    )
    return Lessons(images=images, records=records, shift=0, by_noise_level=further)


def _fit(release: Release, progress: Progress) -> ImageGenerator:
    released = mean_pairs.load(release)
    rng = np.random.default_rng(release.recipe.public_seed)
    generator = fit_generator(
        released.means,
        released.shares,
        lambda n: draw_records(release, n, rng),
        released.feature_map,
        release.image_shape,
        released.noise,
        release.recipe.image_generator,
        progress,
        seed=release.recipe.public_seed,
        device=release.compute.torch_device,
    )
    save_network(generator, release.models / GENERATOR)
    return generator


def _images(release: Release, generator: ImageGenerator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw images of the generator, in [-1, 1], and their records."""
    rng = np.random.default_rng(release.recipe.public_seed + 1)
    records = draw_records(release, release.recipe.pretraining.images, rng)
    noise = torch.Generator().manual_seed(release.recipe.public_seed + 1)
    images = draw_images(generator, records, generator=noise)
    return images * 2 - 1, torch.from_numpy(records)


def _mean_pairs(release: Release) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the enlarged mean images in [-1, 1] and their soft records."""
    images, soft = (torch.from_numpy(part).float() for part in mean_pairs.mean_images(release))
    image = release.schema.image
    size = (image.height, image.width)
    if len(images):
        images = functional.interpolate(images, size=size, mode="bicubic", align_corners=False)
    return images.clamp(0, 1) * 2 - 1, soft


def _sized(release: Release, images: torch.Tensor) -> torch.Tensor:
    """Return images at the size that diffusion draws."""
    return pool(images, release.diffusion_shape[1:]) if release.two_scale else images


def _finisher(release: Release, lessons: Lessons) -> Finisher:
    settings, device = release.recipe.coarse, release.compute.torch_device
    finisher = new_finisher(release).to(device)
    pretrain(
        finisher,
        lessons.images,
        lessons.records,
        settings=DiffusionTraining(
            steps=settings.finisher_steps, batch=FINISHER_BATCH, learning_rate=3e-3
        ),
        shift=0,
        seed=release.recipe.public_seed + 3,
        levels=FINISHER_LEVELS,
        device=device,
        progress=silent,
    )
    return finisher


def _procedural(release: Release) -> torch.Tensor:
    """Draw public procedural images in [-1, 1]."""
    image, rng = release.schema.image, np.random.default_rng(release.recipe.public_seed + 2)
    number = release.recipe.pretraining.procedural
    drawn = dead_leaves(number, image.channels, image.height, image.width, rng=rng)
    return torch.from_numpy(drawn) * 2 - 1
