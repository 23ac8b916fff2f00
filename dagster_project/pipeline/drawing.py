"""Draws the images of records from a release's models, chunk by chunk on a stage's workers.

A chunk's seed follows from the public seed and its number, so a bundle does not depend on who drew
which chunk.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import torch

from dagster_project.compute.workers import kept
from dagster_project.image import edm
from dagster_project.image.edm import LEVELS
from dagster_project.image.generator import ImageGenerator, draw_images
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.two_scale import TwoScale
from dagster_project.image.unet import UNet
from dagster_project.pipeline import detail_model, image_model
from dagster_project.pipeline.release import Drawable, Models

Drawer = UNet | PatchMixer | TwoScale | ImageGenerator
_FORWARD = 500  # images in one pass of the network


@dataclass(frozen=True)
class ChunkImages:
    """Draws the images of one chunk; picklable.

    Attributes:
        models: The released models, where all workers can read them.
        seed: Public seed of the sampling.
        name: Fresh for each bundle; a worker loads the network once for each name.
    """

    models: Models
    seed: int
    name: str = field(default_factory=lambda: os.urandom(16).hex())

    def __call__(self, chunk: tuple[int, np.ndarray]) -> np.ndarray:
        """Return the images, uint8 (N, C, H, W), of the chunk (number, codes)."""
        index, codes = chunk
        network = kept(self.name, lambda: load(self.models).to(self.models.compute.torch_device))
        generator = torch.Generator().manual_seed(hash_seed(self.seed, index))
        return draw(self.models, network, codes, generator)


def load(models: Drawable) -> Drawer:
    """Load the network that draws the images."""
    return detail_model.load(models) if models.two_scale else image_model.load(models)


def hash_seed(seed: int, index: int) -> int:
    """Return a well-mixed 63-bit seed for a chunk, from the public seed and the chunk's number."""
    return int(np.random.SeedSequence([seed, 2, index]).generate_state(1, np.uint64)[0] >> 1)


def draw(
    models: Drawable, network: Drawer, codes: np.ndarray, generator: torch.Generator
) -> np.ndarray:
    """Draw the images of records with these codes, uint8 (N, C, H, W)."""
    one_hot = models.schema.one_hot(codes)
    if isinstance(network, ImageGenerator):
        images = draw_images(network, one_hot, generator=generator)
        return (images * 255).round().to(torch.uint8).numpy()
    records = torch.from_numpy(one_hot)
    drawn = []
    for part in records.split(_FORWARD):
        with models.compute.autocast():
            images = _diffuse(models, network, part.to(models.compute.torch_device), generator)
        drawn.append((images.float().cpu() * 255).round().to(torch.uint8).numpy())
    return np.concatenate(drawn)


def _diffuse(
    models: Drawable,
    network: UNet | PatchMixer | TwoScale,
    records: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw images in [0, 1]."""
    if isinstance(network, TwoScale):
        return network.draw(records, generator)
    drawn = edm.sample(
        network,
        records,
        models.image_shape,
        levels=LEVELS,
        settings=models.recipe.sampler,
        generator=generator,
    )
    return (drawn + 1) / 2
