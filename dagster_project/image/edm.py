"""EDM diffusion: preconditioning, per-example loss and sampler.

The equations are those of Karras et al. 2022 ("Elucidating the design space of diffusion-based
generative models"). The loss with several noise draws per example is that of DPDM (Dockhorn et
al. 2022, noise multiplicity). The training loops are elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch

from dagster_project.settings.diffusion import SamplerSettings

Denoiser = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    """Public constants of the diffusion (Karras et al., table 1).

    `sigma_min`, where sampling ends, is larger than theirs: below it, a network trained for few
    steps adds more noise than it removes (docs/experiments.md). `lowest` is the lowest level of
    training.
    """

    sigma_data: float = 0.5
    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_min: float = 0.1
    sigma_max: float = 40.0
    rho: float = 7.0
    lowest: float = 0.0

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        """Draw training noise levels, ln sigma ~ N(p_mean, p_std^2) given sigma >= lowest."""
        if self.lowest == 0:
            return (torch.randn(shape, generator=generator) * self.p_std + self.p_mean).exp()
        return self.at(torch.rand(shape, generator=generator, dtype=torch.float64))

    def at(self, quantiles: torch.Tensor) -> torch.Tensor:
        """Return the training noise levels at quantiles in [0, 1), float64, of any shape."""
        # The distribution function's inverse, of the upper tail for precision.
        above = (self.p_mean - math.log(self.lowest)) / self.p_std if self.lowest else math.inf
        tail = torch.special.ndtr(torch.tensor(above, dtype=torch.float64)) * (1 - quantiles)
        tail = tail.clamp(max=1 - 2.0**-53)  # without a lowest level, 0 would be a level
        return (self.p_mean - torch.special.ndtri(tail) * self.p_std).exp().float()


LEVELS = NoiseLevels()


def denoise(
    network: Denoiser,
    noisy: torch.Tensor,
    sigma: torch.Tensor,
    record: torch.Tensor,
    condition_mask: torch.Tensor,
    *,
    sigma_data: float,
) -> torch.Tensor:
    """Return D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Karras et al., equation 7).

    Args:
        network: F.
        noisy: (B, C, H, W) images in [-1, 1] with noise of level sigma added.
        sigma: (B,) noise levels.
        record: (B, width) soft records.
        condition_mask: (B,) one where the image is conditioned on the record.
        sigma_data: Standard deviation of the data.

    Returns:
        The expected clean images, (B, C, H, W).
    """
    s = sigma[:, None, None, None]
    total = (s**2 + sigma_data**2).sqrt()
    c_skip = sigma_data**2 / total**2
    c_out = s * sigma_data / total
    return c_skip * noisy + c_out * network(noisy / total, sigma.log() / 4, record, condition_mask)


def losses(
    network: Denoiser,
    clean: torch.Tensor,
    sigma: torch.Tensor,
    noise: torch.Tensor,
    record: torch.Tensor,
    condition_mask: torch.Tensor,
    *,
    sigma_data: float,
) -> torch.Tensor:
    """Return lambda(sigma) ||D(x + n; sigma) - x||^2, averaged over an image, (B,) (eq. 8)."""
    estimate = denoise(
        network,
        clean + sigma[:, None, None, None] * noise,
        sigma,
        record,
        condition_mask,
        sigma_data=sigma_data,
    )
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    return weight * (estimate - clean).square().mean(dim=(1, 2, 3))


def loss(network: Denoiser, *rows: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """Return the mean of `losses` over a batch."""
    return losses(network, *rows, sigma_data=sigma_data).mean()


def losses_of_draws(
    network: Denoiser,
    clean: torch.Tensor,
    sigma: torch.Tensor,
    noise: torch.Tensor,
    record: torch.Tensor,
    condition_mask: torch.Tensor,
    *,
    sigma_data: float,
) -> torch.Tensor:
    """Return the loss of each person, (B,), averaged over the person's K noise draws.

    The mean over the draws is taken before the gradient is clipped, so the sensitivity does not
    depend on K (DPDM, section 3.2).

    Args:
        network: F; it is called once with B K rows, the draws of one person after the other.
        clean: (B, C, H, W) images.
        sigma: (B, K) noise levels.
        noise: (B, K, C, H, W).
        record: (B, width) soft records.
        condition_mask: (B, K).
        sigma_data: Standard deviation of the data.
    """
    people, draws = sigma.shape
    rows = (
        clean.repeat_interleave(draws, dim=0),
        sigma.flatten(),
        noise.flatten(0, 1),
        record.repeat_interleave(draws, dim=0),
        condition_mask.flatten(),
    )
    return losses(network, *rows, sigma_data=sigma_data).view(people, draws).mean(dim=1)


@torch.no_grad()
def sample(
    network: Denoiser,
    record: torch.Tensor,
    shape: tuple[int, int, int],
    *,
    levels: NoiseLevels,
    settings: SamplerSettings,
    generator: torch.Generator,
) -> torch.Tensor:
    """Sample images for records (Karras et al., algorithm 2).

    Args:
        network: F.
        record: (B, width) soft records.
        shape: (C, H, W).
        levels: Public constants.
        settings: Steps, churn, guidance.
        generator: Public randomness on the CPU; the same seed gives the same result.

    Returns:
        (B, C, H, W) in [-1, 1].
    """
    device = record.device
    ramp = torch.linspace(0, 1, settings.steps, dtype=torch.float64)
    high, low = levels.sigma_max ** (1 / levels.rho), levels.sigma_min ** (1 / levels.rho)
    schedule = [*((high + ramp * (low - high)) ** levels.rho).tolist(), 0.0]
    one = torch.ones(len(record), device=device)

    def estimate(x: torch.Tensor, sigma: float) -> torch.Tensor:
        def clean(shown: float) -> torch.Tensor:
            level, condition_mask = one * sigma, one * shown
            return denoise(network, x, level, record, condition_mask, sigma_data=levels.sigma_data)

        if settings.guidance in (0, 1):  # one of the two terms vanishes
            return clean(settings.guidance)
        null = clean(0)
        return null + settings.guidance * (clean(1) - null)

    def fresh() -> torch.Tensor:
        return torch.randn((len(record), *shape), generator=generator).to(device)

    gamma = min(settings.churn / settings.steps, 2**0.5 - 1)
    x = fresh() * schedule[0]
    for now, after in pairwise(schedule):
        raised = now * (1 + gamma)
        x = x + (raised**2 - now**2) ** 0.5 * fresh() if gamma else x
        slope = (x - estimate(x, raised)) / raised
        moved = x + (after - raised) * slope
        if settings.heun and after > 0:
            slope = (slope + (moved - estimate(moved, after)) / after) / 2
            moved = x + (after - raised) * slope
        x = moved
    return x.clamp(-1, 1)
