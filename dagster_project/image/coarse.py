"""The size of coarse images, and how images are brought to it."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from dagster_project.settings.two_scale import CoarseSettings


def coarse_size(height: int, breadth: int, settings: CoarseSettings) -> tuple[int, int]:
    """Return the height and width of the coarse images, multiples of the patch.

    A whole number of pixels is averaged to one if the larger side allows it without losing more
    than a quarter of `settings.side`.

    >>> coarse_size(28, 28, CoarseSettings()), coarse_size(64, 32, CoarseSettings())
    ((14, 14), (16, 8))
    """
    largest = max(height, breadth)
    side = min(settings.side, largest)
    factor = math.ceil(largest / side)
    if largest % factor == 0 and 4 * (largest // factor) >= 3 * side:
        side = largest // factor
    patch = settings.patch

    def scaled(length: int) -> int:
        return max(patch, int(length * side / largest + 0.5) // patch * patch)

    return scaled(height), scaled(breadth)


def pool(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Average (B, C, H, W) over areas to (B, C, *size)."""
    return functional.adaptive_avg_pool2d(images, size)
