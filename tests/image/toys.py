"""A small network and a batch of private examples for the tests of the diffusion model."""

from __future__ import annotations

import torch

from dagster_project.image import edm
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet
from dagster_project.settings.diffusion import NetworkSettings

# A categorical attribute, a numeric one, and a numeric one with a missing cell.
LAYOUT = RecordLayout(sizes=(3, 2, 4), midpoints=(None, (0.25, 0.75), (0.1, 0.4, 0.9)))
LEVELS = edm.NoiseLevels()


def network(channels: int = 1, *, widths: tuple[int, ...] = (8, 16), seed: int = 0) -> UNet:
    """A U-Net whose zero-initialised layers have been moved, so that every gradient flows."""
    torch.manual_seed(seed)
    settings = NetworkSettings(channels=widths, token_size=12, heads=2)
    model = UNet(LAYOUT, settings, image_channels=channels)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def records(people: int, *, seed: int = 0) -> torch.Tensor:
    """One-hot records, (people, width)."""
    random = torch.Generator().manual_seed(seed)
    blocks = []
    for size in LAYOUT.sizes:
        codes = torch.randint(size, (people,), generator=random)
        blocks.append(torch.nn.functional.one_hot(codes, size).float())
    return torch.cat(blocks, dim=1)


def batch(
    people: int, *, draws: int = 2, side: int = 8, channels: int = 1, seed: int = 0
) -> dict[str, torch.Tensor]:
    """What DP-SGD hands to its engine: one entry for each person, K noise draws inside."""
    random = torch.Generator().manual_seed(seed)
    shape = (channels, side, side)
    return {
        "image": torch.rand(people, *shape, generator=random) * 2 - 1,
        "record": records(people, seed=seed),
        "sigma": LEVELS.draw((people, draws), random),
        "noise": torch.randn(people, draws, *shape, generator=random),
        "condition_mask": (torch.rand(people, draws, generator=random) > 0.3).float(),
    }
