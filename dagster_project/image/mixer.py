"""A small denoising network of linear layers over patches, for coarse images and DP-SGD.

Alternating linear layers across patches and across channels follow the MLP-Mixer (Tolstikhin et al.
2021); the record and the noise level modulate each block as in DiT (Peebles and Xie 2023). With a
given privacy noise per weight, a step of DP-SGD learns more from few weights: at 14 x 14 pixels
this network has 50,000 and reaches a lower held-out loss than fully connected ones with 350,000
(docs/experiments.md). It has only LayerNorm, so that examples do not interact.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from dagster_project.image.noise_level import NOISE_FEATURES, noise_features
from dagster_project.settings.two_scale import CoarseSettings


class PatchMixer(nn.Module):
    """The raw network F(x, c_noise, record) inside EDM's preconditioning.

    Args:
        width: Length of a one-hot record.
        shape: (C, H, W) of the images; H and W are multiples of the patch.
        settings: Public architecture settings.
    """

    def __init__(self, width: int, shape: tuple[int, int, int], settings: CoarseSettings) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.patch = settings.patch
        pixels = channels * settings.patch**2
        places = (height // settings.patch) * (breadth // settings.patch)
        size = settings.width
        self.stem = nn.Linear(pixels, size)
        self.condition = nn.Linear(width + NOISE_FEATURES, _CONDITION)
        # What the record says about each pixel, beside the noisy image: the blocks are modulated by
        # channel alone, and would have to learn places of a record's image from mixing.
        self.guess = nn.Linear(_CONDITION, channels * height * breadth)
        nn.init.zeros_(self.guess.weight)
        nn.init.zeros_(self.guess.bias)
        self.blocks = nn.ModuleList(
            _Block(places, size, settings.token_width) for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(size, elementwise_affine=False)
        self.head = nn.Linear(size, pixels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        x: torch.Tensor,
        c_noise: torch.Tensor,
        record: torch.Tensor,
        condition_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return one prediction for each image; arguments and shapes are those of `unet.UNet`."""
        height, breadth = (side // self.patch for side in x.shape[-2:])
        seen = torch.cat([record * condition_mask[:, None], noise_features(c_noise)], dim=1)
        condition = functional.silu(self.condition(seen))
        shown = x + self.guess(condition).view(x.shape)
        h = self.stem(functional.pixel_unshuffle(shown, self.patch).flatten(2).mT)  # (B, T, size)
        for block in self.blocks:
            h = block(h, condition)
        h = self.head(self.norm(h)).mT.unflatten(2, (height, breadth))
        return functional.pixel_shuffle(h, self.patch)


class _Block(nn.Module):
    """Mix across places, modulated, then across channels: (B, T, size), (B, E) -> (B, T, size)."""

    def __init__(self, places: int, size: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size, elementwise_affine=False)
        self.modulate = nn.Linear(_CONDITION, 2 * size)
        self.across = nn.Sequential(nn.Linear(places, hidden), nn.SiLU(), nn.Linear(hidden, places))
        self.within = nn.Sequential(nn.Linear(size, 2 * size), nn.SiLU(), nn.Linear(2 * size, size))

    def forward(self, h: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.modulate(condition)[:, None].chunk(2, dim=2)
        mixed = self.norm(h) * (1 + scale) + shift
        h = h + self.across(mixed.mT).mT
        return h + self.within(self.norm(h))


_CONDITION = 64  # width of the embedded record and noise level
