"""Feature maps of images with norm at most one, and their sums over the cells of a record.

The map is public: its random projections are drawn from a public seed, and its length scales are
settings. Only the sum of features over people is private; `mean_pairs` releases it through one
Gaussian mechanism, and `generator` fits a generator to the released sums.

Besides features of pooled pixels, a map may include features of a public network (`perceptual`).

Random Fourier features follow Rahimi and Recht (2007). Mean embeddings under differential privacy
follow DP-MERF (Harder, Adamczewski, Park 2021), here with one embedding per attribute value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional

from dagster_project.image.perceptual import PerceptualMap, perceptual_map
from dagster_project.image.threads import Threads
from dagster_project.privacy.grid import MOST_PEOPLE, to_grid

# Length scales are given for this many pixels; other sizes keep the same typical phase.
_REFERENCE_PIXELS = 196
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """The public map phi(x) = [sqrt(1 - g) pooled(x), sqrt(g) perceptual(x)], ||phi(x)||_2 <= 1.

    Here pooled(x) = [sqrt(1 - a) fourier(x), sqrt(a) clip(pool(x) - grey)]. The Fourier part has
    unit norm for every x (cos^2 + sin^2 = 1 in each pair of coordinates). The pixel part is clipped
    to unit norm after public mid-grey centring (if any) and scaling by `pixel_clip`. The perceptual
    part has norm at most one. With a pixel share of 1 there is no Fourier part, whatever the value
    of `frequencies`; with a perceptual share of 0 there is no network.

    Attributes:
        channels, height, width: Size of the pooled images.
        scales: Standard deviations of the projections, one block of features each, given for
            196 pixel values in [0, 1].
        frequencies: Random projections per scale.
        pixel_share: a in [0, 1], part of the pooled part's squared norm given to mean images.
        pixel_clip: L2 norm to which a (centred) pooled image is clipped.
        seed: Public seed of the projections.
        centred: Whether the pixel part is the image minus mid-grey, or the image itself.
        perceptual_share: g in [0, 1), part of the squared norm given to the perceptual features.
        perceptual_side: Height and width at which the public network sees the images.
    """

    channels: int
    height: int
    width: int
    scales: tuple[float, ...]
    frequencies: int
    pixel_share: float
    pixel_clip: float
    seed: int
    centred: bool = True
    perceptual_share: float = 0.0
    perceptual_side: int = 64

    def __post_init__(self) -> None:
        if not (0 <= self.pixel_share <= 1 and self.pixel_clip > 0 and self.frequencies > 0):
            raise ValueError("pixel_share in [0, 1], pixel_clip > 0 and frequencies > 0 required")
        if not 0 <= self.perceptual_share < 1:
            raise ValueError("perceptual_share in [0, 1) required")

    @property
    def pixels(self) -> int:
        return self.channels * self.height * self.width

    @property
    def grey(self) -> float:
        """The grey level that is subtracted in the pixel part."""
        return 0.5 if self.centred else 0.0

    @property
    def fourier_size(self) -> int:
        return 2 * self.frequencies * len(self.scales) if self.pixel_share < 1 else 0

    @property
    def pooled_size(self) -> int:
        """The length of the part computed from pooled pixels."""
        return self.fourier_size + (self.pixels if self.pixel_share else 0)

    @property
    def size(self) -> int:
        """The length of phi(x)."""
        return self.pooled_size + (PerceptualMap.size if self.perceptual_share else 0)

    @cached_property
    def projections(self) -> torch.Tensor:
        """The projections (pixels, frequencies * scales), the same on every machine for a seed."""
        generator = torch.Generator().manual_seed(self.seed)
        unit = math.sqrt(_REFERENCE_PIXELS / self.pixels)
        size = (self.pixels, self.frequencies)
        blocks = [torch.randn(size, generator=generator) * scale * unit for scale in self.scales]
        return torch.cat(blocks, dim=1)

    def pool(self, images: torch.Tensor) -> torch.Tensor:
        """Area-average: (N, C, H, W) -> (N, C, h, w)."""
        return functional.adaptive_avg_pool2d(images, (self.height, self.width))

    def fourier(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map (N, C, h, w) in [0, 1] to (N, fourier_size), each row of norm exactly one."""
        return torch.cat(self._waves(pooled, 1.0), dim=1)

    def _waves(self, pooled: torch.Tensor, norm: float) -> list[torch.Tensor]:
        phase = pooled.flatten(1) @ self.projections.to(pooled.device)
        scale = norm / math.sqrt(self.frequencies * len(self.scales))
        return [phase.cos().mul_(scale), phase.sin().mul_(scale)]

    def pixel_part(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map (N, C, h, w) in [0, 1] to (N, pixels), centred if set and clipped to norm one."""
        scaled = (pooled.flatten(1) - self.grey) / self.pixel_clip
        norm = scaled.norm(dim=1, keepdim=True)
        return scaled / norm.clamp(min=1.0)

    def pooled_part(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, pooled_size), rows of L2 norm at most one."""
        pooled = self.pool(images)
        if self.pixel_share == 1:
            return self.pixel_part(pooled)
        if not self.pixel_share:
            return self.fourier(pooled)
        waves = self._waves(pooled, math.sqrt(1 - self.pixel_share))
        return torch.cat([*waves, math.sqrt(self.pixel_share) * self.pixel_part(pooled)], dim=1)

    def perceptual_part(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, PerceptualMap.size), rows of L2 norm at most one."""
        return perceptual_map(self.channels, self.perceptual_side)(images)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, size), rows of L2 norm at most one."""
        pooled = self.pooled_part(images)
        if not self.perceptual_share:
            return pooled
        perceptual = self.perceptual_part(images)
        return torch.cat(
            [
                math.sqrt(1 - self.perceptual_share) * pooled,
                math.sqrt(self.perceptual_share) * perceptual,
            ],
            dim=1,
        )

    def parts(self, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split means of phi (M, size) into means of the pooled and of the perceptual part.

        Their noise is larger by 1 / sqrt(1 - g) and 1 / sqrt(g).
        """
        pooled, perceptual = np.split(means, [self.pooled_size], axis=1)
        share = self.perceptual_share
        return pooled / math.sqrt(1 - share), perceptual / math.sqrt(share or 1.0)


def cell_sums(
    images: np.ndarray,
    one_hot: np.ndarray,
    feature_map: FeatureMap,
    *,
    chunk: int = 256,
    device: torch.device = CPU,
) -> np.ndarray:
    """Sum phi(x) over the people in each cell, in units of the grid. Private.

    Each person's phi(x) is rounded to the grid before it is summed (`privacy.grid`), so the sums
    are exact: neither the order of people nor that of threads changes a bit. The last chunk is
    padded with black images that are in no cell: the shape of a product may change its last digits,
    and nobody's features may depend on the number of people.

    Args:
        images: (N, C, H, W) uint8.
        one_hot: (N, cells) membership, `d` ones in each row.
        feature_map: The public map.
        chunk: Images whose features are held at a time.
        device: Where the features are computed.

    Returns:
        (cells, feature_map.size) int64 in units of 2^-24. One person's pair adds d rows, each of
        norm at most 2^24: a matrix of Frobenius norm at most sqrt(d) 2^24, exactly.
    """
    if len(images) > MOST_PEOPLE:
        raise ValueError(f"at most {MOST_PEOPLE} people can be summed exactly")

    def summed(start: int) -> np.ndarray:
        batch = torch.from_numpy(np.array(images[start : start + chunk])).float() / 255
        filled = functional.pad(batch.to(device), (0, 0, 0, 0, 0, 0, 0, chunk - len(batch)))
        units = to_grid(feature_map(filled)[: len(batch)], max_norm=1.0)
        member = torch.from_numpy(one_hot[start : start + chunk]).double()
        return (member.T @ units.cpu().double()).numpy()  # exact: integers below 2^53

    total = np.zeros((one_hot.shape[1], feature_map.size))
    # Kernels chosen by timing do not reproduce their last bits.
    with (
        torch.backends.cudnn.flags(benchmark=False, deterministic=True),
        Threads(device) as threads,
    ):
        for part in threads.map(summed, range(0, len(images), chunk)):
            total += part
    return total.astype(np.int64)


def cosines(n: int) -> torch.Tensor:
    """Return the orthonormal DCT-II matrix (n frequencies, n positions)."""
    position, frequency = torch.arange(n) + 0.5, torch.arange(n)[:, None]
    matrix = torch.cos(torch.pi * frequency * position / n) * (2 / n) ** 0.5
    matrix[0] /= 2**0.5
    return matrix
