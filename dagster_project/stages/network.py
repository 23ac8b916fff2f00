"""The diffusion network before it has learnt anything. Public."""

from __future__ import annotations

import torch

from dagster_project.image.edm import NoiseLevels
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet, UNetSettings
from dagster_project.stages.release import Release

LEVELS = NoiseLevels()


def new_network(release: Release) -> UNet:
    """The diffusion network with public initial weights."""
    settings = release.recipe.network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(release.recipe.public_seed)
        return UNet(
            RecordLayout.of(release.schema),
            UNetSettings(image_channels=release.schema.image.channels, **settings.model_dump()),
        )
