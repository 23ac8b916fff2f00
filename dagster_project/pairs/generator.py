"""A small conditional generator fitted to released mean embeddings. Post-processing: free.

The generator draws a pooled picture for a record and noise; it is fitted so that, over records
of the private table model, its mean features in every cell match the released ones. It works at
the size of the pooled images: what the features do not see, it is not free to draw. Its last
layer works on cosine coefficients whose step sizes fall with frequency, a smoothness prior.

The released means are private already; no record enters here. Relates to DP-MERF (Harder,
Adamczewski, Park 2021), which matches one joint embedding instead of one for every cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dagster_project.pairs.embeddings import FeatureMap, cosines


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """Public settings of the fit.

    Attributes:
        latent: Size of the noise input.
        hidden: Width of the two hidden layers.
        steps, batch, learning_rate: Adam with a cosine schedule to zero.
        smoothness: Exponent s of the prior: the coefficient at frequency f is scaled by
            (1 + f)^-s.
        seed: Public seed.
    """

    latent: int = 16
    hidden: int = 400
    steps: int = 1500
    batch: int = 500
    learning_rate: float = 1e-2
    smoothness: float = 0.5
    seed: int = 0


class Generator(nn.Module):
    """(B, width) records, (B, latent) noise -> (B, C, h, w) pictures in [0, 1]."""

    def __init__(
        self, width: int, shape: tuple[int, int, int], settings: GeneratorSettings
    ) -> None:
        super().__init__()
        self.latent, self.shape = settings.latent, shape
        hidden, pixels = settings.hidden, int(np.prod(shape))
        self.body = nn.Sequential(
            nn.Linear(settings.latent + width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, pixels),
        )
        rows, columns = cosines(shape[1]), cosines(shape[2])
        frequency = torch.hypot(
            *torch.meshgrid(
                torch.arange(shape[1]) + 0.0, torch.arange(shape[2]) + 0.0, indexing="ij"
            )
        )
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.register_buffer("prior", (1 + frequency) ** -settings.smoothness * shape[1] ** 0.5)

    def forward(self, record: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        coefficients = self.body(torch.cat([noise, record], dim=1)).view(-1, *self.shape)
        picture = self.rows.T @ (coefficients * self.prior) @ self.columns
        return picture.sigmoid()


def fit_generator(
    means: np.ndarray,
    shares: np.ndarray,
    draw_records: Callable[[int], np.ndarray],
    feature_map: FeatureMap,
    settings: GeneratorSettings,
    progress: Callable[[float, str], None],
) -> Generator:
    """Fits a generator to the mean features of every cell.

    The loss is the sum over cells of share * ||m_batch - m_cell||^2 with the squared norm of the
    batch mean replaced by its unbiased estimate over distinct pairs (a U-statistic). The plain
    square would add the features' variance over the cell's batch size, and so reward pictures
    that vary less than the private ones.

    Args:
        means: (cells, feature_map.size) released mean features.
        shares: (cells,) weight of each cell, 0 to leave it out.
        draw_records: From a number to that many one-hot records of the table model, (n, cells).
        feature_map: The public map that the means were made with.
        settings: Public settings.
        progress: Fraction done and a text.

    Returns:
        The fitted generator in evaluation mode.
    """
    random = torch.Generator().manual_seed(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        shape = (feature_map.channels, feature_map.height, feature_map.width)
        model = Generator(means.shape[0], shape, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    target = torch.from_numpy(means).float()
    weight = torch.from_numpy(shares).float()
    pool = torch.from_numpy(draw_records(settings.batch * 40)).float()
    for step in range(settings.steps):
        record = pool[torch.randint(len(pool), (settings.batch,), generator=random)]
        noise = torch.randn(settings.batch, settings.latent, generator=random)
        features = feature_map(model(record, noise))
        value = _matching_loss(features, record, target, weight)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / settings.steps, "fitting the generator")
    return model.eval()


def _matching_loss(
    features: torch.Tensor, record: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    count = record.sum(0)
    total = record.T @ features  # (cells, size)
    own = record.T @ features.square().sum(1)  # sum of each picture's own square
    square = (total.square().sum(1) - own) / (count * (count - 1)).clamp(min=1)
    cross = (total * target).sum(1) / count.clamp(min=1)
    return (weight * (count > 1) * (square - 2 * cross)).sum()


@torch.no_grad()
def draw_pictures(
    model: Generator,
    records: np.ndarray,
    height: int,
    width: int,
    *,
    generator: torch.Generator,
    chunk: int = 2048,
) -> torch.Tensor:
    """Pictures for one-hot records, enlarged bicubically: (N, C, height, width) in [0, 1]."""
    pictures = []
    for part in torch.from_numpy(records).float().split(chunk):
        noise = torch.randn(len(part), model.latent, generator=generator)
        small = model(part, noise)
        size = (height, width)
        large = functional.interpolate(small, size=size, mode="bicubic", align_corners=False)
        pictures.append(large.clamp(0, 1))
    return torch.cat(pictures)
