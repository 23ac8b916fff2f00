"""A labelled public pool of procedural images: plain shapes and textures, one class per kind.

It needs no files and shows no particular subject, so it is useful in tests and when no public data
set is available. Unlabelled images for the low noise levels are drawn in `image.procedural`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dagster_project.data.schema import ImageSpec
from dagster_project.public_data.pool import PublicPool

NAME = "procedural shapes"
Grid = tuple[np.ndarray, np.ndarray]


def draw_pool(n: int, spec: ImageSpec, *, rng: np.random.Generator) -> PublicPool:
    """Draw `n` images, equally many of each class (to within one).

    Args:
        n: Number of images, at least one for each class.
        spec: Channels, height and width of the images.
        rng: Public randomness; the same seed gives the same pool.
    """
    if n < len(CLASSES):
        raise ValueError(f"A procedural pool needs at least {len(CLASSES)} images.")
    labels = np.arange(n) % len(CLASSES)
    images = np.empty((n, spec.channels, spec.height, spec.width), np.uint8)
    for label, draw in enumerate(CLASSES.values()):
        rows = np.flatnonzero(labels == label)
        images[rows] = _images(len(rows), spec, draw, rng)
    return PublicPool(NAME, images, labels.astype(np.int32), tuple(CLASSES))


def _images(
    n: int, spec: ImageSpec, draw: Callable[[Grid, np.random.Generator], np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Blend a coverage in [0, 1] between a background and a clearly different colour."""
    ys, xs = np.mgrid[: spec.height, : spec.width] + 0.5
    side = max(spec.height, spec.width)
    # Centred units in which the longer side spans [-1, 1]; each image is rotated, shifted, scaled.
    y, x = (2 * ys - spec.height) / side, (2 * xs - spec.width) / side
    turn = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    dy, dx = rng.uniform(-0.25, 0.25, (2, n, 1, 1))
    size = rng.uniform(0.7, 1.3, (n, 1, 1))
    u = (np.cos(turn) * (x - dx) + np.sin(turn) * (y - dy)) / size
    v = (np.cos(turn) * (y - dy) - np.sin(turn) * (x - dx)) / size
    cover = draw((u, v), rng)[:, None]
    ground = rng.uniform(0, 1, (n, spec.channels, 1, 1))
    ground = np.where(rng.random((n, 1, 1, 1)) < 0.5, ground.round(), ground)
    step = rng.uniform(0.35, 0.9, ground.shape) * np.where(ground < 0.5, 1, -1)
    blend = (ground + step * cover).clip(0, 1)
    return (255 * (blend + rng.normal(0, 0.01, blend.shape)).clip(0, 1)).round().astype(np.uint8)


def _soft(distance: np.ndarray) -> np.ndarray:
    """Convert a signed distance, negative inside, to coverage with edges about a pixel wide."""
    return 1 / (1 + np.exp(np.clip(distance * 25, -60, 60)))


def _box(u: np.ndarray, v: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.maximum(np.abs(u) - a, np.abs(v) - b)


def _wave(t: np.ndarray, rate: float) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(4 * np.sin(rate * t))


def _blob(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    u, v = grid
    angle, shape = np.arctan2(v, u), (len(u), 1, 1)
    edge = 0.5 + sum(
        rng.normal(0, 0.09, shape) * np.cos(k * angle + rng.uniform(0, 6.3, shape))
        for k in (2, 3, 4)
    )
    return _soft(np.hypot(u, v) - edge)


def _speckle(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    u, v = grid
    waves = np.zeros_like(u)
    for _ in range(6):
        along, across = rng.normal(0, 9, (2, len(u), 1, 1))
        waves += np.sin(along * u + across * v)
    return _soft(-0.25 * waves)


def _star(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    u, v = grid
    points = rng.integers(5, 8, (len(u), 1, 1))
    return _soft(np.hypot(u, v) - 0.45 - 0.2 * np.cos(points * np.arctan2(v, u)))


CLASSES: dict[str, Callable[[Grid, np.random.Generator], np.ndarray]] = {
    "disc": lambda g, _: _soft(np.hypot(*g) - 0.5),
    "ring": lambda g, _: _soft(np.abs(np.hypot(*g) - 0.5) - 0.12),
    "box": lambda g, _: _soft(_box(*g, 0.45, 0.45)),
    "frame": lambda g, _: _soft(np.abs(_box(*g, 0.5, 0.5)) - 0.1),
    "bar": lambda g, _: _soft(_box(*g, 0.75, 0.16)),
    "two bars": lambda g, _: _soft(_box(g[0], np.abs(g[1]) - 0.32, 0.65, 0.12)),
    "cross": lambda g, _: _soft(np.minimum(_box(*g, 0.65, 0.15), _box(*g, 0.15, 0.65))),
    "corner": lambda g, _: _soft(
        np.minimum(_box(g[0], g[1] + 0.45, 0.6, 0.15), _box(g[0] + 0.45, g[1], 0.15, 0.6))
    ),
    "triangle": lambda g, _: _soft(
        np.maximum(np.abs(g[0]) * 0.87 + g[1] * 0.5 - 0.35, -g[1] - 0.35)
    ),
    "half disc": lambda g, _: _soft(np.maximum(np.hypot(*g) - 0.6, g[1])),
    "star": _star,
    "blob": _blob,
    "speckle": _speckle,
    "wide stripes": lambda g, _: _wave(g[0], 7.0),
    "narrow stripes": lambda g, _: _wave(g[0], 17.0),
    "checks": lambda g, _: _wave(g[0], 9.0) * _wave(g[1], 9.0),
    "rings": lambda g, _: _wave(np.hypot(*g), 14.0),
    "dots": lambda g, _: _soft(0.6 - np.cos(8 * g[0]) * np.cos(8 * g[1])),
    "slope": lambda g, _: (0.5 + 0.45 * g[0]).clip(0, 1),
    "glow": lambda g, _: np.exp(-3 * (g[0] ** 2 + g[1] ** 2)),
}
