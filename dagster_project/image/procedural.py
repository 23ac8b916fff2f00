"""Public procedural images: overlapping shapes with smooth shading ("dead leaves").

They have what all images share, edges between smooth regions, and no subject. A diffusion model
that learns its low noise levels from them removes speckle without having seen a private image. The
model follows Lee, Mumford, Huang, "Occlusion models for natural images" (2001).
"""

from __future__ import annotations

import numpy as np


def dead_leaves(
    n: int, channels: int, height: int, width: int, *, rng: np.random.Generator, leaves: int = 12
) -> np.ndarray:
    """Draw images of random shapes over a plain background.

    Args:
        n: Number of images.
        channels, height, width: Size of the images.
        rng: Public randomness.
        leaves: Maximum number of shapes in an image.

    Returns:
        float32 (n, channels, height, width) in [0, 1].
    """
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    ys, xs = ys[None] / height, xs[None] / width
    # Half of the backgrounds are black or white, as in catalogues and X-rays.
    ground = rng.choice([0.0, 1.0, -1.0], size=(n, 1, 1, 1), p=[0.35, 0.15, 0.5])
    ground = np.where(ground < 0, rng.random((n, channels, 1, 1)), ground)
    images = np.broadcast_to(ground, (n, channels, height, width)).astype(np.float32)
    number = rng.integers(1, leaves + 1, size=n)
    for leaf in range(leaves):
        inside = _shape(n, ys, xs, rng) & (leaf < number)[:, None, None]
        colour = rng.random((n, channels, 1, 1)) + _shading(n, ys, xs, rng)[:, None]
        images = np.where(inside[:, None], colour, images)
    return images.clip(0, 1).astype(np.float32)


def _shape(n: int, ys: np.ndarray, xs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return masks (n, h, w) of rotated ellipses and boxes with heavy-tailed sizes."""
    cy, cx, turn, half = (
        rng.random((4, n, 1, 1)) * [[[[1]]], [[[1]]], [[[np.pi]]], [[[1]]]]
    ).astype(np.float32)
    radius = 0.06 / (half + 0.09)
    stretch = rng.uniform(0.3, 1.0, (n, 1, 1)).astype(np.float32)
    u = (np.cos(turn) * (ys - cy) + np.sin(turn) * (xs - cx)) / radius
    v = (np.cos(turn) * (xs - cx) - np.sin(turn) * (ys - cy)) / (radius * stretch)
    box = rng.random((n, 1, 1)) < 0.5
    return np.where(box, np.maximum(abs(u), abs(v)) < 1, u**2 + v**2 < 1)


def _shading(n: int, ys: np.ndarray, xs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return shadings (n, h, w): linear slopes, with stripes in a third of them."""
    slope = rng.normal(0, 0.2, (2, n, 1, 1))
    plane = slope[0] * (ys - 0.5) + slope[1] * (xs - 0.5)
    turn, rate = rng.random((n, 1, 1)) * np.pi, rng.uniform(4, 12, (n, 1, 1))
    wave = np.sin(2 * np.pi * rate * (np.cos(turn) * ys + np.sin(turn) * xs))
    amplitude = rng.uniform(0, 0.25, (n, 1, 1)) * (rng.random((n, 1, 1)) < 0.33)
    return (plane + amplitude * wave).astype(np.float32)
