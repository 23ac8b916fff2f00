"""A network that adds detail to coarse images, fitted to released means. Free post-processing.

The network maps a coarse image, its record and noise to an image of full size. It is fitted like
the generator (`generator`): over coarse images that the diffusion model draws for records of the
table model, the mean features of a public network in every cell must match the released ones. Each
result, pooled, must also stay near its coarse image, so that images differ as the coarse ones do.

The released means and the coarse model are already differentially private; no record is read here.
The fit starts at the enlarged coarse image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dagster_project.image.embeddings import CPU, FeatureMap
from dagster_project.image.generator import total_variation
from dagster_project.image.matching import matching_loss
from dagster_project.settings.two_scale import DetailSettings


class DetailNetwork(nn.Module):
    """A residual convolutional network from coarse (B, C, h, w) to (B, C, H, W) in [0, 1].

    Args:
        width: Length of a one-hot record.
        shape: (C, H, W) of the results.
        settings: Public architecture settings.
    """

    def __init__(self, width: int, shape: tuple[int, int, int], settings: DetailSettings) -> None:
        super().__init__()
        channels, depth = settings.channels, settings.depth
        self.size = shape[1:]
        # The image, one channel of noise, and a learned map of the places.
        self.places = nn.Parameter(torch.zeros(1, 1, *self.size))
        self.stem = nn.Conv2d(shape[0] + 2, channels, 3, padding=1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, channels) for _ in range(depth))
        self.modulate = nn.ModuleList(nn.Linear(width, 2 * channels) for _ in range(depth))
        self.head = nn.Conv2d(channels, shape[0], 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.to(memory_format=torch.channels_last)  # on a CPU, three quarters of the time

    def forward(
        self, coarse: torch.Tensor, record: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        """Return images (B, C, H, W).

        Args:
            coarse: (B, C, h, w) in [0, 1].
            record: (B, width) records.
            noise: (B, 1, H, W) standard normal.
        """
        enlarged = enlarge(coarse, self.size).clamp(_DARKEST, 1 - _DARKEST)
        places = self.places.expand(len(coarse), -1, -1, -1)
        h = self.stem(torch.cat([enlarged * 2 - 1, noise, places], dim=1))
        for convolution, norm, modulate in zip(
            self.convolutions, self.norms, self.modulate, strict=True
        ):
            scale, shift = modulate(record)[..., None, None].chunk(2, dim=1)
            h = h + functional.silu(convolution(norm(h)) * (1 + scale) + shift)
        return (enlarged.logit() + self.head(h)).sigmoid()

    def draw(
        self, coarse: torch.Tensor, record: torch.Tensor, random: torch.Generator
    ) -> torch.Tensor:
        """Return images with noise of `random`, which is on the CPU."""
        noise = torch.randn(len(coarse), 1, *self.size, generator=random)
        return self(coarse, record, noise.to(coarse.device))


def enlarge(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge (B, C, h, w) in [0, 1] to (B, C, *size) by bicubic interpolation."""
    enlarged = functional.interpolate(images, size=size, mode="bicubic", align_corners=False)
    return enlarged.clamp(0, 1)


def fit_detail(
    coarse: torch.Tensor,
    records: torch.Tensor,
    means: np.ndarray,
    shares: np.ndarray,
    feature_map: FeatureMap,
    shape: tuple[int, int, int],
    noise: float,
    settings: DetailSettings,
    progress: Callable[[float, str], None],
    *,
    seed: int,
    device: torch.device = CPU,
) -> DetailNetwork:
    """Fit the network to the mean perceptual features of every cell.

    The loss is that of `generator.fit_generator` on the perceptual part, plus
    `faithfulness` ||pool(result) - coarse||^2 for each image and the price on total variation.

    Args:
        coarse: (N, C, h, w) coarse images in [0, 1].
        records: (N, width) their records, one-hot.
        means: (cells, feature_map.size) released mean features.
        shares: (cells,) weight of each cell, 0 to leave it out.
        feature_map: The public map that the means were made with; it has a perceptual part.
        shape: (C, H, W) of the images.
        noise: Standard deviation of the privacy noise in a mean over everybody.
        settings: Public settings.
        progress: Callback that receives the fraction done and a text.
        seed: Public seed.
        device: Where to fit.

    Returns:
        The fitted network in evaluation mode, on the CPU.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DetailNetwork(records.shape[1], shape, settings).to(device)
    target, weight = (
        torch.from_numpy(part).float().to(device) for part in (feature_map.parts(means)[1], shares)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step in range(settings.steps):
        chosen = torch.randint(len(coarse), (settings.batch,), generator=random)
        low, record = coarse[chosen].to(device), records[chosen].to(device)
        images = network.draw(low, record, random)
        value = matching_loss(feature_map.perceptual_part(images), record, target, weight)
        apart = functional.adaptive_avg_pool2d(images, low.shape[-2:]) - low
        value = value + settings.faithfulness * apart.square().sum(dim=(1, 2, 3)).mean()
        value = value + settings.total_variation * noise * total_variation(images)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / settings.steps, "fitting the detail")
    return network.cpu().eval()


_GROUPS = 4
_DARKEST = 0.02  # the logit of the enlarged image stays finite
