"""Generator of pairs, fitted to a released mean embedding of pairs; free post-processing.

The embedding is a mean of phi(x) (x) psi(y) over people: Fourier features of the image, times the
one-hot record over sqrt(d). `joint_mean_embedding` releases it.

After DP-MERF (Harder, Adamczewski, Park, AISTATS 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from dagster_project.data.progress import Progress
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.generator import ImageGenerator, total_variation
from dagster_project.settings.sections import ImageGeneratorSettings


class PairGenerator(nn.Module):
    """(B, latent) noise -> (B, C, H, W) images in [0, 1] and (B, cells) probabilities.

    The cells of a record are drawn independently given the noise, so the mean of phi (x) psi over
    drawn records equals the mean over the probabilities, which are therefore fitted directly.
    """

    def __init__(
        self, sizes: Sequence[int], shape: tuple[int, int, int], settings: ImageGeneratorSettings
    ) -> None:
        super().__init__()
        self.sizes, self.latent = list(sizes), settings.latent
        still = settings.model_copy(update={"shift": 0.0})
        self.image = ImageGenerator(0, shape, still)
        self.record = nn.Sequential(
            nn.Linear(settings.latent, settings.hidden),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, sum(sizes)),
        )

    def forward(self, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        blocks = self.record(noise).split(self.sizes, dim=1)
        record = torch.cat([block.softmax(dim=1) for block in blocks], dim=1)
        return self.image(noise[:, :0], noise), record


def fit(
    embedding: np.ndarray,
    sizes: Sequence[int],
    feature_map: FeatureMap,
    shape: tuple[int, int, int],
    noise: float,
    settings: ImageGeneratorSettings,
    progress: Progress,
    *,
    seed: int,
) -> PairGenerator:
    """Fit a generator to the released embedding, with the default release's variation penalty.

    Args:
        embedding: (cells, feature_map.size), at any scale.
        sizes: Number of cells of each attribute.
        feature_map: phi, the public map of the images.
        shape: (C, H, W) of the images.
        noise: Standard deviation of the privacy noise in a mean of phi over everybody.
        settings: Public settings.
        progress: Called with the fraction done and a text.
        seed: Public seed.
    """
    # `fit_generator` weights the error of a cell of frequency s by s, this embedding by s^2 / d.
    # Summed over all cells of evenly used attributes this is sum(1 / sizes) / d instead of d.
    weight = sum(1 / size for size in sizes) / len(sizes) ** 2
    price = settings.total_variation * noise * weight
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PairGenerator(sizes, shape, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    target = torch.from_numpy(embedding).float()
    for step in range(settings.steps):
        images, records = model(torch.randn(settings.batch, settings.latent, generator=random))
        features = feature_map(images)
        value = matching_loss(features, records / math.sqrt(len(sizes)), target)
        value = value + price * total_variation(images)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / settings.steps, "fitting the generator of pairs")
    return model.eval()


def matching_loss(phi: torch.Tensor, psi: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """min over c >= 0 of ||c m - target||^2 - ||target||^2 = -<m, target>^2 / ||m||^2.

    The factor c replaces the number of people, which is private and not released. m is the mean of
    phi (x) psi over the batch; its square is the unbiased estimate over distinct pairs.
    """
    count = len(phi)
    total = psi.T @ phi
    own = (phi.square().sum(1) * psi.square().sum(1)).sum()
    square = (total.square().sum() - own) / (count * (count - 1))
    cross = (total * target).sum() / count
    return -cross * cross.abs() / square.clamp(min=1e-4)


@torch.no_grad()
def draw(
    model: PairGenerator, n: int, generator: torch.Generator
) -> tuple[torch.Tensor, np.ndarray]:
    """Draw `n` images (N, C, H, W) in [-1, 1] and their cells (N, d)."""
    images, records = model(torch.randn(n, model.latent, generator=generator))
    blocks = records.split(model.sizes, dim=1)
    codes = [torch.multinomial(block, 1, generator=generator) for block in blocks]
    return images * 2 - 1, torch.cat(codes, dim=1).numpy()
