"""The features of a public network as a feature map with norm at most one.

DP-MEPF (Harder, Jalali, Sutherland, Park 2023) releases means of such features under differential
privacy, over each class. Here they are released over every attribute value, beside the Fourier
features of `embeddings`, which capture shapes and brightness but neither edges nor texture.

The map is public: the network was trained only on ImageNet, and centre and radius are those of
procedural images.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch.nn import functional

from dagster_project.image.efficientnet import FEATURES, SIDE, efficientnet_lite
from dagster_project.image.procedural import dead_leaves

_BLOCKS = (3, 6, 14)  # the last of 24, 40 and 112 channels: a quarter, eighth, 16th of the side
_PLACES = 2  # averages per side: upper and lower, left and right halves
_WIDTHS = (*(channels * _PLACES**2 for channels in (24, 40, 112)), FEATURES)
_DRAWN, _DRAWN_SIDE, _DRAWN_SEED = 256, 32, 0
_BATCH = 64  # at 32 x 32, batches of 32 take 1.3 times as long for each image


class PerceptualMap:
    """phi(x) = [clip((f_l(x) - centre_l) / radius_l)]_l / sqrt(levels), so ||phi(x)||_2 <= 1.

    f_l are averages of the network's l-th level. Each of the L levels is clipped to norm one, so
    the squared norm of phi is at most L / L. No image affects the features of another: images are
    processed in batches of a fixed size, padded with black, because the shape of a batch may change
    the last digits of a result.

    Args:
        channels: 1 or 3.
        side: Height and width at which the network sees the images.

    Attributes:
        size: Length of phi(x).
    """

    size = sum(_WIDTHS)

    def __init__(self, channels: int, side: int = SIDE) -> None:
        self._side = side
        rng = np.random.default_rng(_DRAWN_SEED)
        drawn = dead_leaves(_DRAWN, channels, _DRAWN_SIDE, _DRAWN_SIDE, rng=rng)
        with torch.no_grad():
            levels = self._levels(torch.from_numpy(drawn))
        self._centres = [level.mean(dim=0) for level in levels]
        # 95 % of the procedural images are not clipped.
        self._radii = [
            (level - centre).norm(dim=1).quantile(0.95)
            for level, centre in zip(levels, self._centres, strict=True)
        ]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, size), rows of L2 norm at most one; differentiable."""
        parts = []
        levels = self._levels(images)
        for level, centre, radius in zip(levels, self._centres, self._radii, strict=True):
            scaled = (level - centre.to(level.device)) / radius.to(level.device)
            parts.append(scaled / scaled.norm(dim=1, keepdim=True).clamp(min=1.0))
        return torch.cat(parts, dim=1) / len(parts) ** 0.5

    def _levels(self, images: torch.Tensor) -> list[torch.Tensor]:
        network, found = efficientnet_lite("lite1"), []
        for some in images.split(_BATCH):
            filled = functional.pad(some, (0, 0, 0, 0, 0, 0, 0, _BATCH - len(some)))
            *blocks, head = network.maps(filled, _BLOCKS, side=self._side)
            levels = [functional.adaptive_avg_pool2d(level, _PLACES) for level in blocks]
            levels.append(head.mean(dim=(2, 3)))
            found.append([level.flatten(1)[: len(some)] for level in levels])
        return [torch.cat(level) for level in zip(*found, strict=True)]


@cache
def perceptual_map(channels: int, side: int = SIDE) -> PerceptualMap:
    """Return the map for images with 1 or 3 channels, seen at a size, made once."""
    return PerceptualMap(channels, side)
