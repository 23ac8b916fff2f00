"""A small conditional generator fitted to released mean embeddings. Free post-processing.

The generator maps a record and noise to an image. It is fitted so that, over records of the
private table model, its mean features in every cell match the released ones. The features only see
pooled images and are noisy, so that an image of speckle can match as well as a clean one. Two
public priors on images resolve this: a total variation penalty (Rudin, Osher, Fatemi 1992), which
favours smooth parts with sharp edges, and a last layer on cosine coefficients whose step sizes fall
with frequency. A penalty on logits beyond black and white prevents saturation: the first, large
steps would drive some pixels so far into the flat part of the sigmoid that they never recover and
stay dark in all images.

If the means include features of a public network (`perceptual`), a second, shorter descent matches
them too, which adds edges and texture. A step through the network costs as much as five others.

The released means are already differentially private; no record is read here. DP-MERF (Harder,
Adamczewski, Park 2021) matches one joint embedding instead of one for every cell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dagster_project.image.augmentation import random_windows
from dagster_project.image.embeddings import CPU, FeatureMap, cosines
from dagster_project.image.matching import matching_loss
from dagster_project.settings.sections import ImageGeneratorSettings


class ImageGenerator(nn.Module):
    """A network that maps (B, width) records and (B, latent) noise to (B, C, h, w) in [0, 1].

    `draw` takes windows of the image's size from its output.
    """

    def __init__(
        self, width: int, shape: tuple[int, int, int], settings: ImageGeneratorSettings
    ) -> None:
        super().__init__()
        self.latent, self.size = settings.latent, shape[1:]
        height, breadth = (side + 2 * round(settings.shift * side) for side in shape[1:])
        self.shape = shape = (shape[0], height, breadth)
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
        return self._logits(record, noise).sigmoid()

    def draw(self, record: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Draw (B, C, H, W) images for (B, width) records; `random` is on the CPU."""
        return self.draw_logits(record, random).sigmoid()

    def draw_logits(self, record: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """Draw the images of `draw`, before the sigmoid."""
        noise = torch.randn(len(record), self.latent, generator=random).to(record.device)
        return random_windows(self._logits(record, noise), *self.size, generator=random)

    def _logits(self, record: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        coefficients = self.body(torch.cat([noise, record], dim=1)).view(-1, *self.shape)
        return self.rows.T @ (coefficients * self.prior) @ self.columns


def fit_generator(
    means: np.ndarray,
    shares: np.ndarray,
    draw_records: Callable[[int], np.ndarray],
    feature_map: FeatureMap,
    shape: tuple[int, int, int],
    noise: float,
    settings: ImageGeneratorSettings,
    progress: Callable[[float, str], None],
    *,
    seed: int,
    device: torch.device = CPU,
) -> ImageGenerator:
    """Fit a generator to the mean features of every cell.

    The loss has three terms. The first is the sum over cells and parts of share * ||m_batch -
    m_cell||^2, with the squared norm of the batch mean replaced by its unbiased estimate over
    distinct pairs (a U-statistic). The plain square would add the features' variance divided by
    the cell's batch size, and so reward images that vary less than the private ones. The second is
    the total variation penalty, which grows with the noise like a threshold in denoising. The third
    is the penalty on saturated logits.

    Args:
        means: (cells, feature_map.size) released mean features.
        shares: (cells,) weight of each cell, 0 to leave it out.
        draw_records: Function from n to n one-hot records of the table model, (n, cells).
        feature_map: The public map that the means were made with.
        shape: (C, H, W) of the images.
        noise: Standard deviation of the privacy noise in a mean over everybody.
        settings: Public settings.
        progress: Callback that receives the fraction done and a text.
        seed: Public seed.
        device: Where to fit.

    Returns:
        The fitted generator in evaluation mode, on the CPU.
    """
    price = settings.total_variation * noise
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ImageGenerator(means.shape[0], shape, settings).to(device)
    pooled, perceptual, weight, pool = (
        torch.from_numpy(part).float().to(device)
        for part in (*feature_map.parts(means), shares, draw_records(settings.batch * 40))
    )
    refining = settings.perceptual_steps if feature_map.perceptual_share else 0
    # Total time in steps, for the progress bar.
    total = settings.steps + _REFINING_COST * refining

    def descend(steps: int, learning_rate: float, seen: int, done: int, cost: int) -> None:
        """Run Adam with half a cosine of rates; the network sees `seen` images of each batch."""
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            record = pool[torch.randint(len(pool), (settings.batch,), generator=random).to(device)]
            logits = model.draw_logits(record, random)
            images = logits.sigmoid()
            value = matching_loss(feature_map.pooled_part(images), record, pooled, weight)
            value = value + price * total_variation(images)
            value = value + settings.saturation * saturation(logits)
            if seen:
                features = feature_map.perceptual_part(images[:seen])
                value = value + matching_loss(features, record[:seen], perceptual, weight)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()
            progress((done + cost * (step + 1)) / total, "fitting the generator")

    descend(settings.steps, settings.learning_rate, 0, 0, 1)
    if refining:
        rate, seen = settings.perceptual_learning_rate, settings.perceptual_batch
        descend(refining, rate, seen, settings.steps, _REFINING_COST)
    return model.cpu().eval()


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Return the mean total variation of (B, C, H, W) images on the unit square.

    This is the integral of the gradient's norm over both directions and all channels, so that
    channels share their edges (Blomgren and Chan 1998). A black image with a white half has total
    variation 1 at any size.
    """
    height, width = images.shape[-2:]
    # Forward differences, nothing beyond the border (Chambolle 2004): every neighbour counts.
    across = functional.pad(images.diff(dim=-1), (0, 1))
    down = functional.pad(images.diff(dim=-2), (0, 0, 0, 1))
    squared = ((across * width).square() + (down * height).square()).mean(dim=1)
    return (squared + _FLAT**2).sqrt().mean()


def saturation(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean squared excess over `_REACH` of the absolute logits, of any shape."""
    return (logits.abs() - _REACH).relu().square().mean()


_REFINING_COST = 5  # approximate cost of a step through the network, in other steps
# Rounds the corner of the norm at 0, where it has no gradient: 0.03 of the grey scale per image.
_FLAT = 0.03
_REACH = 6.0  # 255 sigmoid(-6) = 0.6: closer to black than eight bits can resolve


@torch.no_grad()
def draw_images(
    model: ImageGenerator,
    records: np.ndarray,
    *,
    generator: torch.Generator,
    chunk: int = 2048,
) -> torch.Tensor:
    """Draw images (N, C, H, W) in [0, 1] for one-hot records; `generator` and images are CPU's."""
    images = []
    device = model.rows.device
    for part in torch.from_numpy(records).float().split(chunk):
        images.append(model.draw(part.to(device), generator).cpu())
    return torch.cat(images)
