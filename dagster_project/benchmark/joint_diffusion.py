"""JointDM: one network, trained only by DP-SGD, denoises image and record together.

Records are one-hot vectors minus the uniform vector, relaxed to real numbers; both parts of a pair
share a noise level and the EDM preconditioning. This project's U-Net denoises the image and attends
to the noisy record's tokens; an MLP denoises the record and sees an encoding of the noisy image. A
sampled record is the largest entry of each attribute.

Baseline in: DP-TabImage (Chen, Lamp, Wang, Jha, arXiv 2609.00708, 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from dagster_project.benchmark import private_network
from dagster_project.benchmark.joint import Joint, synthetic_pairs
from dagster_project.benchmark.private_network import GroupNormEncoder, Training, drawn_size
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.image import edm
from dagster_project.image.edm import LEVELS
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.plan import PlannedMechanism
from dagster_project.settings.recipe import Recipe

STAGE = "joint_model"
_HIDDEN = 128


class JointDiffusion(Joint):
    """Diffusion of whole pairs by one network."""

    title = "JointDM: one DP-SGD network denoises image and record together"

    def mechanisms(self, schema: Schema, recipe: Recipe, mu: float) -> tuple[PlannedMechanism, ...]:
        return (private_network.mechanism(STAGE, schema, recipe, mu=mu, share=1.0),)

    def rehearse(self, schema: Schema, recipe: Recipe, compute: Compute, pairs: Pairs) -> None:
        private_network.rehearse(_training(schema, recipe), pairs, recipe, compute)

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        schema, image = release.schema, drawn_size(release.schema, release.recipe)
        network = private_network.train(release, STAGE, _training(schema, release.recipe), progress)
        pixels = image.channels * image.height * image.width
        drawn = private_network.draw(release, network, (1, 1, pixels + schema.width), n, seed)
        images, records = drawn[:, 0, 0, :pixels], drawn[:, 0, 0, pixels:]
        blocks = (records + _uniform(schema)).split(list(schema.sizes), dim=1)
        codes = torch.stack([block.argmax(dim=1) for block in blocks], dim=1).numpy()
        images = images.reshape(n, image.channels, image.height, image.width)
        return synthetic_pairs(schema, images, codes, seed)


class JointNetwork(nn.Module):
    """F(pair, c_noise) inside EDM's preconditioning; a pair is one row (B, 1, 1, pixels + width).

    Args:
        schema: The public contract.
        recipe: Its `network` shapes the U-Net.
    """

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        super().__init__()
        image = drawn_size(schema, recipe)
        self.shape = (image.channels, image.height, image.width)
        # One token per cell, for numeric attributes too: a noisy attribute has no numeric value.
        layout = RecordLayout(schema.sizes, (None,) * len(schema.sizes))
        self.unet = UNet(layout, recipe.network, image_channels=image.channels)
        self.encoder = GroupNormEncoder(image, _HIDDEN)
        self.body = nn.Sequential(
            nn.Linear(schema.width + _HIDDEN + 6, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.SiLU(),
        )
        self.head = nn.Linear(_HIDDEN, schema.width)
        # Like the U-Net's head: initially a pair is its own best estimate.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        pair: torch.Tensor,
        c_noise: torch.Tensor,
        record: torch.Tensor,
        condition_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return one prediction per pair; there is no condition, so `record` is ignored."""
        row = pair[:, 0, 0]
        pixels = self.shape[0] * self.shape[1] * self.shape[2]
        image, noisy = row[:, :pixels].reshape(-1, *self.shape), row[:, pixels:]
        level = torch.cat(
            [f(k * c_noise[:, None]) for k in (1, 2, 4) for f in (torch.sin, torch.cos)], dim=1
        )
        seen = torch.cat([noisy, self.encoder(image), level], dim=1)
        clean = self.unet(image, c_noise, noisy, torch.ones_like(c_noise))
        return torch.cat([clean.flatten(1), self.head(self.body(seen))], dim=1)[:, None, None]


def losses(network: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the loss (B,) of each pair over its K noise draws.

    The mean over the image's entries and the mean over the record's have the same weight.
    """
    people, draws = batch["sigma"].shape
    pixels = batch["image"][0].numel()
    row = torch.cat([batch["image"].flatten(1), batch["record"]], dim=1)
    clean = row[:, None, None].repeat_interleave(draws, dim=0)
    sigma = batch["sigma"].flatten()
    noisy = clean + sigma[:, None, None, None] * batch["noise"].flatten(0, 1)
    estimate = edm.denoise(network, noisy, sigma, sigma, sigma, sigma_data=LEVELS.sigma_data)
    error = (estimate - clean).square()[:, 0, 0]
    weight = (sigma**2 + LEVELS.sigma_data**2) / (sigma * LEVELS.sigma_data) ** 2
    each = weight * (error[:, :pixels].mean(dim=1) + error[:, pixels:].mean(dim=1))
    return each.view(people, draws).mean(dim=1)


def _training(schema: Schema, recipe: Recipe) -> Training:
    draws, drawn = recipe.dp_sgd.noise_draws, drawn_size(schema, recipe)

    def tensors(people: Pairs, random: torch.Generator) -> dict[str, torch.Tensor]:
        image = private_network.images(people, drawn)
        size = image[0].numel() + schema.width
        return {
            "image": image,
            "record": torch.from_numpy(schema.one_hot(people.codes)) - _uniform(schema),
            "sigma": LEVELS.draw((len(image), draws), random),
            "noise": torch.randn(len(image), draws, 1, 1, size, generator=random),
        }

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.public_seed)
        model = JointNetwork(schema, recipe)
    return Training(
        model=model,
        losses=losses,
        tensors=tensors,
        learning_rate=recipe.dp_sgd.learning_rate,
    )


def _uniform(schema: Schema) -> torch.Tensor:
    """Return the uniform record, (width,)."""
    return torch.cat([torch.full((size,), 1 / size) for size in schema.sizes])
