"""Draws the images of records from a release's models, chunk by chunk on a stage's workers.

The seeds of a chunk and its parts follow from the public seed and their numbers, so a bundle does
not depend on who drew which chunk.
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
from dagster_project.image.threads import Threads
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
        return draw(self.models, network, codes, hash_seed(self.seed, index))


def load(models: Drawable) -> Drawer:
    """Load the network that draws the images."""
    return detail_model.load(models) if models.two_scale else image_model.load(models)


def hash_seed(seed: int, index: int) -> int:
    """Return a well-mixed 63-bit seed for a part of something, from its seed and a number."""
    return int(np.random.SeedSequence([seed, 2, index]).generate_state(1, np.uint64)[0] >> 1)


def draw(models: Drawable, network: Drawer, codes: np.ndarray, seed: int) -> np.ndarray:
    """Draw the images of records with these codes, uint8 (N, C, H, W)."""
    one_hot = models.schema.one_hot(codes)
    if isinstance(network, ImageGenerator):
        generator = torch.Generator().manual_seed(seed)
        return _bytes(draw_images(network, one_hot, generator=generator))
    parts, device = torch.from_numpy(one_hot).split(_FORWARD), models.compute.torch_device

    def drawn(number: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(hash_seed(seed, number))
        with models.compute.autocast():
            images = _diffuse(models, network, parts[number].to(device), generator)
        return _bytes(images.float().cpu())

    with Threads(device, parts=len(parts)) as threads:
        return np.concatenate(list(threads.map(drawn, range(len(parts)))))


def _bytes(images: torch.Tensor) -> np.ndarray:
    """Return images in [0, 1] as uint8."""
    return (images * 255).round().to(torch.uint8).numpy()


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
