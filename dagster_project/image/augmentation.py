"""Random shifts of images, from a public seed."""

from __future__ import annotations

import torch
from torch.nn import functional


def shift_images(images: torch.Tensor, *, pixels: int, generator: torch.Generator) -> torch.Tensor:
    """Shift each image (N, C, H, W) by up to `pixels` in both directions, repeating the edges."""
    padded = functional.pad(images, [pixels] * 4, mode="replicate")
    return random_windows(padded, images.shape[2], images.shape[3], generator=generator)


def random_windows(
    images: torch.Tensor, height: int, width: int, *, generator: torch.Generator
) -> torch.Tensor:
    """Crop a uniformly random window of each image, (N, C, H, W) -> (N, C, height, width).

    Differentiable.

    Args:
        images: On any device.
        height, width: Size of the window, at most that of the images.
        generator: Public randomness on the CPU.
    """
    for dim, size in ((2, height), (3, width)):
        spare = images.shape[dim] - size
        if not spare:
            continue
        offset = torch.randint(0, spare + 1, (len(images), 1), generator=generator)
        index = (torch.arange(size) + offset).to(images.device)
        wanted = list(images.shape)
        wanted[dim] = size
        index = index[:, None, :, None] if dim == 2 else index[:, None, None, :]
        images = images.gather(dim, index.expand(wanted))
    return images
