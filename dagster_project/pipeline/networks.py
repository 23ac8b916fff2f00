"""What recipe and schema say about the networks that draw images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dagster_project.data.schema import Schema
from dagster_project.image.coarse import coarse_size
from dagster_project.image.edm import LEVELS, NoiseLevels
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet


class Networks:
    """Base class of a release and of its models, which both have a recipe and a schema."""

    recipe: Any  # a field of one subclass, a property of the other
    schema: Schema

    @property
    def two_scale(self) -> bool:
        """Whether diffusion draws coarse images, to which another network adds detail."""
        return self.recipe.sampler.model == "two_scale"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        image = self.schema.image
        return image.channels, image.height, image.width

    @property
    def diffusion_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that diffusion draws."""
        channels, height, width = self.image_shape
        if self.two_scale:
            height, width = coarse_size(height, width, self.recipe.coarse)
        return channels, height, width

    @property
    def has_finisher(self) -> bool:
        """Whether another network draws below the handover: it learns from the generator."""
        return self.two_scale and self.recipe.pretraining.source == "generator"

    @property
    def training_levels(self) -> NoiseLevels:
        """The noise levels that train the diffusion network."""
        if not self.has_finisher:
            return LEVELS
        coarse = self.recipe.coarse
        return replace(LEVELS, lowest=coarse.lowest_level * coarse.handover)

    def new_network(self) -> UNet | PatchMixer:
        """Return the untrained diffusion network, with public initial weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.public_seed)
            if self.two_scale and self.recipe.coarse.network == "mixer":
                return PatchMixer(self.schema.width, self.diffusion_shape, self.recipe.coarse)
            layout = RecordLayout.of(self.schema)
            return UNet(layout, self.recipe.network, image_channels=self.schema.image.channels)


def save_network(network: nn.Module, file: Path) -> None:
    """Write the weights of a network, wherever it is and however they lie in memory."""
    save_file({n: p.cpu().contiguous() for n, p in network.state_dict().items()}, file)
