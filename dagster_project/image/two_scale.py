"""The two-scale image model: a coarse image by diffusion, then detail by one convolutional network.

DP-SGD pays for what varies between people at few pixels, where a small network learns it; what
edges and textures look like is matched to released means, at no further cost (`detail`).

Diffusion uses two networks (as experts of noise levels, Balaji et al. 2022, "eDiff-I"): the coarse
network, trained with DP-SGD, decides what is shown, and below the handover a finisher, trained only
on images of the generator, removes the rest of the noise. So the privacy noise in the weights of
the coarse network is not drawn as speckle.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from dagster_project.image import edm
from dagster_project.image.coarse import coarse_size
from dagster_project.image.detail import DetailNetwork, enlarge
from dagster_project.image.edm import Denoiser, NoiseLevels
from dagster_project.image.noise_level import NOISE_FEATURES, noise_features
from dagster_project.settings.diffusion import SamplerSettings
from dagster_project.settings.two_scale import CoarseSettings

# Of the coarse images: the finisher draws to a low level, and learns up to above the handover.
COARSE_LEVELS = NoiseLevels(sigma_min=0.02, sigma_max=80.0)
FINISHER_LEVELS = NoiseLevels(p_mean=-1.8, p_std=1.0)
FINISHER_BATCH = 64


class Finisher(nn.Module):
    """A small convolutional denoiser for low noise levels, with the interface of `unet.UNet`."""

    def __init__(self, width: int, image_channels: int, settings: CoarseSettings) -> None:
        super().__init__()
        channels = settings.finisher_channels
        self.stem = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(_DEPTH)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, channels) for _ in range(_DEPTH))
        self.modulate = nn.ModuleList(
            nn.Linear(width + NOISE_FEATURES, 2 * channels) for _ in range(_DEPTH)
        )
        self.head = nn.Conv2d(channels, image_channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.to(memory_format=torch.channels_last)  # on a CPU, eight tenths of the time

    def forward(
        self,
        x: torch.Tensor,
        c_noise: torch.Tensor,
        record: torch.Tensor,
        condition_mask: torch.Tensor,
    ) -> torch.Tensor:
        seen = torch.cat([record * condition_mask[:, None], noise_features(c_noise)], dim=1)
        h = self.stem(x)
        for convolution, norm, modulate in zip(
            self.convolutions, self.norms, self.modulate, strict=True
        ):
            scale, shift = modulate(seen)[..., None, None].chunk(2, dim=1)
            h = h + functional.silu(convolution(norm(h)) * (1 + scale) + shift)
        return self.head(h)


class Experts:
    """The coarse network at and above the handover, the finisher below it.

    All images of a batch must have the same noise level, as in sampling.
    """

    def __init__(self, coarse: Denoiser, finisher: Denoiser, *, handover: float) -> None:
        self.coarse, self.finisher = coarse, finisher
        self._lowest = math.log(handover) / 4 if handover else -math.inf

    def __call__(
        self,
        x: torch.Tensor,
        c_noise: torch.Tensor,
        record: torch.Tensor,
        condition_mask: torch.Tensor,
    ) -> torch.Tensor:
        network = self.coarse if float(c_noise[0]) >= self._lowest else self.finisher
        return network(x, c_noise, record, condition_mask)


class TwoScale(nn.Module):
    """Everything that draws an image for a record.

    Args:
        coarse: The coarse network.
        finisher: Its continuation below the handover; without one it draws at all levels.
        detail: The network that adds detail; without one the coarse images are enlarged.
        shape: (C, H, W) of the images.
        settings: Public settings of the coarse images.
        sampler: Steps, churn and guidance of the diffusion.
    """

    def __init__(
        self,
        coarse: nn.Module,
        finisher: nn.Module | None,
        detail: DetailNetwork | None,
        *,
        shape: tuple[int, int, int],
        settings: CoarseSettings,
        sampler: SamplerSettings,
    ) -> None:
        super().__init__()
        self.coarse, self.finisher, self.detail = coarse, finisher, detail
        self.sampler, self.handover = sampler, settings.handover
        self.size, self.coarse_shape = shape[1:], (shape[0], *coarse_size(*shape[1:], settings))

    def draw_coarse(self, record: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Draw coarse images (B, C, h, w) in [0, 1]; `random` is on the CPU."""
        drawn = edm.sample(
            self.coarse
            if self.finisher is None
            else Experts(self.coarse, self.finisher, handover=self.handover),
            record,
            self.coarse_shape,
            levels=COARSE_LEVELS,
            settings=self.sampler,
            generator=random,
        )
        return (drawn + 1) / 2

    @torch.no_grad()
    def draw(self, record: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Draw images (B, C, H, W) in [0, 1] for (B, width) records."""
        coarse = self.draw_coarse(record, random)
        return (
            enlarge(coarse, self.size)
            if self.detail is None
            else self.detail.draw(coarse, record, random)
        )


_DEPTH, _GROUPS = 4, 4
