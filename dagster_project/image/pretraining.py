"""Pretraining of the diffusion model on quantities already released. Free post-processing.

There are three sources, each used at the noise levels where it is right. The fitted generator's
images with records of the table model teach shapes and their correspondence to records. The mean
pairs are used only at high noise levels, where the best denoiser's output is the mean image of
everybody who fits the record, which is exactly what a mean pair is; at low noise they would teach
blur. Public procedural images can teach the lowest noise levels, where a denoiser needs to know
what edges look like and not what is shown. They are off by default because they improved no image
(docs/experiments.md).

Without a generator the mean pairs can serve as the images themselves, shifted slightly, at all
noise levels (DP-TabImage, Chen et al. 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from dagster_project.image import edm
from dagster_project.image.augmentation import shift_images
from dagster_project.settings.diffusion import DiffusionTraining, PretrainingSettings


@dataclass(frozen=True, kw_only=True)
class ByNoiseLevel:
    """Examples that are right only at some noise levels.

    Attributes:
        mean_images: (M, C, H, W) in [-1, 1], used at high noise; M may be 0.
        soft_records: (M, width).
        procedural: (P, C, H, W) in [-1, 1], public, used at low noise; P may be 0.
        settings: Number of examples, and the levels they are used at.
    """

    mean_images: torch.Tensor
    soft_records: torch.Tensor
    procedural: torch.Tensor
    settings: PretrainingSettings


def pretrain(
    model: nn.Module,
    images: torch.Tensor,
    records: torch.Tensor,
    *,
    settings: DiffusionTraining,
    shift: int,
    seed: int,
    levels: edm.NoiseLevels,
    device: torch.device,
    progress: Callable[[float, str], None],
    by_noise_level: ByNoiseLevel | None = None,
) -> None:
    """Train `model` in place.

    Args:
        model: The diffusion network.
        images: (N, C, H, W) in [-1, 1]; N > 0.
        records: (N, width) records of the images.
        settings: Public settings.
        shift: Largest random shift of the images, in pixels.
        seed: Public seed.
        levels: Public constants of the diffusion.
        device: Where to train.
        progress: Callback that receives the fraction done and a text.
        by_noise_level: Further examples, if any.

    Raises:
        ValueError: If the settings do not give the number of steps.
    """
    if settings.steps is None:
        raise ValueError("the steps of pretraining are not fixed yet: planning fills them in")
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    extra = by_noise_level
    mean_pairs = extra.settings.mean_pairs if extra and len(extra.mean_images) else 0
    size = settings.batch + mean_pairs
    for step in range(settings.steps):
        chosen = torch.randint(len(images), (settings.batch,), generator=random)
        clean, record = images[chosen], records[chosen]
        if shift:
            clean = shift_images(clean, pixels=shift, generator=random)
        sigma = levels.draw((size,), random)
        if extra and len(extra.procedural):
            drawn = torch.randint(len(extra.procedural), (settings.batch,), generator=random)
            low = sigma[: settings.batch] < extra.settings.procedural_sigma
            clean = torch.where(low[:, None, None, None], extra.procedural[drawn], clean)
        if extra and mean_pairs:
            means = torch.randint(len(extra.mean_images), (mean_pairs,), generator=random)
            moved = shift_images(
                extra.mean_images[means], pixels=extra.settings.shift, generator=random
            )
            clean = torch.cat([clean, moved])
            record = torch.cat([record, extra.soft_records[means]])
            sigma[settings.batch :] = extra.settings.mean_pair_sigma * (
                1 + torch.rand(mean_pairs, generator=random) * 9
            )
        condition_mask = (torch.rand(size, generator=random) >= settings.condition_dropout).float()
        noise = torch.randn(clean.shape, generator=random)
        inputs = (t.to(device) for t in (clean, sigma, noise, record, condition_mask))
        value = edm.loss(model, *inputs, sigma_data=levels.sigma_data)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        progress((step + 1) / settings.steps, "pretraining the diffusion model")
