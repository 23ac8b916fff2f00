"""Fits the generator and warms up the diffusion model on released statistics. Cost: none."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from dagster_project.image.edm import NoiseLevels
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet, UNetSettings
from dagster_project.pairs.generator import (
    Generator,
    GeneratorSettings,
    draw_pictures,
    fit_generator,
)
from dagster_project.pairs.procedural import dead_leaves
from dagster_project.pairs.warm_up import WarmUpSettings, warm_up
from dagster_project.stages import mean_pairs, table_model
from dagster_project.stages.release import Progress, Release

FILES = ("generator.safetensors", "pretrained.safetensors")
LEVELS = NoiseLevels()
_GENERATOR_PART = 0.5  # of the stage's time, for the progress bar


def make(release: Release, progress: Progress) -> bool:
    """Writes `models/<id>/pretrained.safetensors`; reads nothing private."""

    def run() -> None:
        generator = _fit(release, lambda f, text: progress(f * _GENERATOR_PART, text))
        save_file(generator.state_dict(), release.models / FILES[0])
        model = new_network(release)
        pictures, records = _pictures(release, generator)
        images, soft = _prototypes(release)
        device = release.compute.torch_device
        model.to(device)
        settings = release.recipe.warm_up.model_dump(exclude={"pictures", "procedural"})
        warm_up(
            model,
            pictures,
            records,
            images,
            soft,
            _procedural(release),
            levels=LEVELS,
            settings=WarmUpSettings(**settings, seed=release.recipe.public_seed),
            device=device,
            progress=lambda f, text: progress(_GENERATOR_PART * (1 + f), text),
        )
        save_file({n: p.cpu() for n, p in model.state_dict().items()}, release.models / FILES[1])

    return release.once(
        "pretrained_checkpoint",
        run,
        executed=None,
        files=FILES,
        parents=("table_model", "mean_pairs"),
    )


def new_network(release: Release) -> UNet:
    """The diffusion network with public initial weights."""
    settings = release.recipe.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(release.recipe.public_seed)
        return UNet(
            RecordLayout.of(release.schema),
            UNetSettings(image_channels=release.schema.image.channels, **settings.model_dump()),
        )


def load(release: Release) -> UNet:
    """The network after the warm-up."""
    model = new_network(release)
    model.load_state_dict(load_file(release.models / FILES[1]))
    return model


def draw_records(release: Release, n: int, rng: np.random.Generator) -> np.ndarray:
    """One-hot records of the table model, float32 (n, cells)."""
    return release.schema.one_hot(table_model.load(release).model.sample(n, rng))


def preview(release: Release, n: int) -> np.ndarray:
    """Some of the generator's pictures, uint8 (n, C, H, W)."""
    width = release.schema.width
    public_map = mean_pairs.feature_map(release)
    shape = (public_map.channels, public_map.height, public_map.width)
    generator = Generator(width, shape, _generator_settings(release))
    generator.load_state_dict(load_file(release.models / FILES[0]))
    image, rng = release.schema.image, np.random.default_rng(release.recipe.public_seed)
    pictures = draw_pictures(
        generator.eval(),
        draw_records(release, n, rng),
        image.height,
        image.width,
        generator=torch.Generator().manual_seed(release.recipe.public_seed),
    )
    return (pictures * 255).round().to(torch.uint8).numpy()


def _generator_settings(release: Release) -> GeneratorSettings:
    settings = release.recipe.generator.model_dump()
    return GeneratorSettings(**settings, seed=release.recipe.public_seed)


def _fit(release: Release, progress: Progress) -> Generator:
    released = mean_pairs.load(release)
    rng = np.random.default_rng(release.recipe.public_seed)
    return fit_generator(
        released.means,
        released.shares,
        lambda n: draw_records(release, n, rng),
        released.feature_map,
        _generator_settings(release),
        progress,
    )


def _pictures(release: Release, generator: Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The generator's pictures in [-1, 1] and their records."""
    rng = np.random.default_rng(release.recipe.public_seed + 1)
    image = release.schema.image
    records = draw_records(release, release.recipe.warm_up.pictures, rng)
    noise = torch.Generator().manual_seed(release.recipe.public_seed + 1)
    pictures = draw_pictures(generator, records, image.height, image.width, generator=noise)
    return pictures * 2 - 1, torch.from_numpy(records)


def _prototypes(release: Release) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean images in [-1, 1], enlarged, and their soft records."""
    released, image = mean_pairs.load(release), release.schema.image
    kept = released.shares > 0
    images = torch.from_numpy(released.images()[kept]).float()
    size = (image.height, image.width)
    large = functional.interpolate(images, size=size, mode="bicubic", align_corners=False)
    return large.clamp(0, 1) * 2 - 1, torch.from_numpy(released.soft_records[kept]).float()


def _procedural(release: Release) -> torch.Tensor:
    """Public pictures drawn by a rule, in [-1, 1]."""
    image, rng = release.schema.image, np.random.default_rng(release.recipe.public_seed + 2)
    number = release.recipe.warm_up.procedural
    drawn = dead_leaves(number, image.channels, image.height, image.width, rng=rng)
    return torch.from_numpy(drawn) * 2 - 1
