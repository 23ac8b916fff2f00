"""Warm-up of the diffusion model on what has been released already. Post-processing: free.

Three sources teach it, each at the noise levels where it is right. The fitted generator's
pictures with records of the table model teach shapes and their correspondence to records. The
mean pairs teach the high noise levels alone: there the best denoiser's output is the mean image
of everybody who fits the record, which is exactly what a mean pair is; at low noise it would
teach blur. Public procedural pictures can teach the lowest noise levels, where a denoiser needs to
know how edges look and not what is shown; the default leaves them out, as they made no picture
better (docs/experiments.md).

Without a generator the mean pairs can be the pictures themselves, moved about a little, at all
noise levels (DP-TabImage, Chen et al. 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from dagster_project.image import edm
from dagster_project.image.augmentation import shift_images


@dataclass(frozen=True, kw_only=True)
class WarmUpSettings:
    """Public settings.

    Attributes:
        steps, batch, learning_rate: Adam with a cosine schedule to zero.
        condition_dropout: Probability that an example trains the null record.
        prototypes: Mean pairs in each batch.
        prototype_sigma: Lowest noise level at which mean pairs are used.
        shift: Augmentation of mean pairs, pixels.
        shift_pictures: Augmentation of the pictures, pixels.
        procedural_sigma: Noise level below which procedural pictures are used; 0 for none.
        seed: Public seed.
    """

    steps: int = 600
    batch: int = 128
    learning_rate: float = 1e-3
    condition_dropout: float = 0.1
    prototypes: int = 16
    prototype_sigma: float = 3.0
    shift: int = 1
    shift_pictures: int = 0
    procedural_sigma: float = 0.0
    seed: int = 0


def warm_up(
    model: nn.Module,
    pictures: torch.Tensor,
    records: torch.Tensor,
    mean_images: torch.Tensor,
    soft_records: torch.Tensor,
    procedural: torch.Tensor,
    *,
    levels: edm.NoiseLevels,
    settings: WarmUpSettings,
    device: torch.device,
    progress: Callable[[float, str], None],
) -> None:
    """Trains `model` in place.

    Args:
        model: The diffusion network.
        pictures: (N, C, H, W) in [-1, 1], drawn by the generator; N > 0.
        records: (N, width) their records.
        mean_images: (M, C, H, W) in [-1, 1]; M may be 0.
        soft_records: (M, width).
        procedural: (P, C, H, W) in [-1, 1], public; P may be 0.
        levels: Public constants of the diffusion.
        settings: Public settings.
        device: Where to train.
        progress: Fraction done and a text.
    """
    random = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    prototypes = settings.prototypes if len(mean_images) else 0
    size = settings.batch + prototypes
    for step in range(settings.steps):
        chosen = torch.randint(len(pictures), (settings.batch,), generator=random)
        clean, record = pictures[chosen], records[chosen]
        if settings.shift_pictures:
            clean = shift_images(clean, pixels=settings.shift_pictures, generator=random)
        sigma = levels.draw((size,), random)
        if len(procedural):
            drawn = torch.randint(len(procedural), (settings.batch,), generator=random)
            low = sigma[: settings.batch] < settings.procedural_sigma
            clean = torch.where(low[:, None, None, None], procedural[drawn], clean)
        if prototypes:
            means = torch.randint(len(mean_images), (prototypes,), generator=random)
            moved = shift_images(mean_images[means], pixels=settings.shift, generator=random)
            clean = torch.cat([clean, moved])
            record = torch.cat([record, soft_records[means]])
            sigma[settings.batch :] = settings.prototype_sigma * (
                1 + torch.rand(prototypes, generator=random) * 9
            )
        keep = (torch.rand(size, generator=random) >= settings.condition_dropout).float()
        noise = torch.randn(clean.shape, generator=random)
        inputs = (t.to(device) for t in (clean, sigma, noise, record, keep))
        value = edm.loss(model, *inputs, sigma_data=levels.sigma_data)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / settings.steps, "warming up the diffusion model")
