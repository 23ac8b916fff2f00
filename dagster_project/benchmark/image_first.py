"""ImageTab: an unconditional diffusion of images, then records predicted from its images.

Both networks are trained by DP-SGD for the same number of steps. p(record | image) is
autoregressive: a head on an encoding of the image, plus a linear term in the cells of the preceding
attributes. The budget is split equally, because neither network is useful without the other.

Baseline in: DP-TabImage (Chen, Lamp, Wang, Jha, arXiv 2609.00708, 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dagster_project.benchmark import private_network
from dagster_project.benchmark.joint import Joint, synthetic_pairs
from dagster_project.benchmark.private_network import GroupNormEncoder, Training, drawn_size
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import ImageSpec, Schema
from dagster_project.image import edm
from dagster_project.image.edm import LEVELS
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.plan import PlannedMechanism
from dagster_project.settings.recipe import Recipe

IMAGES, RECORDS = "unconditional_model", "record_model"
_HIDDEN = 128
# Ratio of the predictor's learning rate to the diffusion's: it does not start from the identity.
_FASTER = 4.0


class ImageFirst(Joint):
    """Images first, then records predicted from them."""

    title = "ImageTab: DP-SGD images first, then DP-SGD records predicted from them"

    def mechanisms(self, schema: Schema, recipe: Recipe, mu: float) -> tuple[PlannedMechanism, ...]:
        return tuple(
            private_network.mechanism(stage, schema, recipe, mu=mu, share=0.5)
            for stage in (IMAGES, RECORDS)
        )

    def rehearse(self, schema: Schema, recipe: Recipe, compute: Compute, pairs: Pairs) -> None:
        for training in (_images(schema, recipe), _records(schema, recipe)):
            private_network.rehearse(training, pairs, recipe, compute)

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        schema, recipe = release.schema, release.recipe
        diffusion = private_network.train(
            release,
            IMAGES,
            _images(schema, recipe),
            lambda f, text: progress(0.7 * f, text),
        )
        predictor = private_network.train(
            release,
            RECORDS,
            _records(schema, recipe),
            lambda f, text: progress(0.7 + 0.2 * f, text),
        )
        image = drawn_size(schema, recipe)
        shape = (image.channels, image.height, image.width)
        images = private_network.draw(release, diffusion, shape, n, seed)
        # Records are predicted from images in the grey values of a file.
        images = ((images + 1) * 127.5).round() / 127.5 - 1
        assert isinstance(predictor, Predictor)
        random = torch.Generator().manual_seed(seed)
        return synthetic_pairs(schema, images, predictor.cpu().draw(images, random), seed)


class Unconditional(nn.Module):
    """The diffusion network, which never sees a record."""

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        super().__init__()
        self.width = schema.width
        layout = RecordLayout.of(schema)
        self.unet = UNet(layout, recipe.network, image_channels=schema.image.channels)

    def forward(
        self,
        x: torch.Tensor,
        c_noise: torch.Tensor,
        record: torch.Tensor,
        condition_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return (B, C, H, W); `record` is ignored."""
        return self.unet(x, c_noise, x.new_zeros(len(x), self.width), torch.zeros_like(c_noise))


class Predictor(nn.Module):
    """Logits of each attribute's cells, given the image and the preceding attributes."""

    mask: torch.Tensor

    def __init__(self, schema: Schema, image: ImageSpec) -> None:
        super().__init__()
        self.sizes = list(schema.sizes)
        self.encoder = GroupNormEncoder(image, _HIDDEN)
        self.head = nn.Linear(_HIDDEN, schema.width)
        self.before = nn.Parameter(torch.zeros(schema.width, schema.width))
        attribute = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        self.register_buffer("mask", attribute[:, None] < attribute[None, :], persistent=False)

    def forward(self, images: torch.Tensor, record: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W), (B, width) one-hot -> (B, width) log probabilities."""
        return self._normal(self.head(self.encoder(images)), record)

    def _normal(self, logits: torch.Tensor, record: torch.Tensor) -> torch.Tensor:
        logits = logits + record @ (self.before * self.mask)
        blocks = logits.split(self.sizes, dim=1)
        return torch.cat([block.log_softmax(dim=1) for block in blocks], dim=1)

    @torch.no_grad()
    def draw(self, images: torch.Tensor, generator: torch.Generator) -> np.ndarray:
        """Draw cells (N, d) for images, one attribute after the other."""
        logits = torch.cat([self.head(self.encoder(part)) for part in images.split(1000)])
        record, codes, start = torch.zeros_like(logits), [], 0
        for size in self.sizes:
            chances = self._normal(logits, record)[:, start : start + size].exp()
            codes.append(torch.multinomial(chances, 1, generator=generator))
            record.scatter_(1, start + codes[-1], 1.0)
            start += size
        return torch.cat(codes, dim=1).numpy()


def image_losses(
    network: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the diffusion loss (B,) of each image over its K noise draws."""
    sigma = batch["sigma"]
    return edm.losses_of_draws(
        network, batch["image"], sigma, batch["noise"], sigma, sigma, sigma_data=LEVELS.sigma_data
    )


def record_losses(
    network: Callable[..., torch.Tensor], batch: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    """Return the cross-entropy (B,) of each record given its image, averaged over attributes."""
    record = batch["record"]
    return -(record * network(batch["image"], record)).sum(dim=1) / record.sum(dim=1)


def _images(schema: Schema, recipe: Recipe) -> Training:
    draws, drawn = recipe.dp_sgd.noise_draws, drawn_size(schema, recipe)

    def tensors(people: Pairs, random: torch.Generator) -> dict[str, torch.Tensor]:
        image = private_network.images(people, drawn)
        return {
            "image": image,
            "sigma": LEVELS.draw((len(image), draws), random),
            "noise": torch.randn(len(image), draws, *image.shape[1:], generator=random),
        }

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.public_seed)
        model = Unconditional(schema, recipe)
    rate = recipe.dp_sgd.learning_rate
    return Training(model=model, losses=image_losses, tensors=tensors, learning_rate=rate)


def _records(schema: Schema, recipe: Recipe) -> Training:
    drawn = drawn_size(schema, recipe)

    def tensors(people: Pairs, random: torch.Generator) -> dict[str, torch.Tensor]:
        record = torch.from_numpy(schema.one_hot(people.codes))
        return {"image": private_network.images(people, drawn), "record": record}

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.public_seed)
        model = Predictor(schema, drawn)
    rate = _FASTER * recipe.dp_sgd.learning_rate
    return Training(model=model, losses=record_losses, tensors=tensors, learning_rate=rate)
