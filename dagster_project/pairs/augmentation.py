"""Random moves of pictures: public, by a seed."""

from __future__ import annotations

import torch


def shift_images(
    images: torch.Tensor, *, pixels: int | tuple[int, int], generator: torch.Generator
) -> torch.Tensor:
    """Each image (N, C, H, W) moved by up to `pixels` up or down and left or right, edges repeated;
    differentiable.

    Args:
        images: On any device.
        pixels: Largest move, or that of the rows and of the columns.
        generator: Public randomness, of the CPU.
    """
    most = (pixels, pixels) if isinstance(pixels, int) else pixels
    for dim, size, furthest in zip((2, 3), images.shape[2:], most, strict=True):
        if not furthest:
            continue
        moves = torch.randint(-furthest, furthest + 1, (len(images), 1), generator=generator)
        index = (torch.arange(size) + moves).clamp(0, size - 1).to(images.device)
        shape = (len(images), 1, size, 1) if dim == 2 else (len(images), 1, 1, size)
        images = images.gather(dim, index.view(shape).expand_as(images))
    return images
