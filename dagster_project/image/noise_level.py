"""The features of a noise level that all denoising networks take."""

from __future__ import annotations

import torch

_FREQUENCIES = 16
NOISE_FEATURES = 2 * _FREQUENCIES


def noise_features(c_noise: torch.Tensor) -> torch.Tensor:
    """Map EDM's c_noise (B,) to (B, NOISE_FEATURES): frequencies from 1/4 to 16 in equal ratios."""
    frequencies = torch.logspace(-2, 4, _FREQUENCIES, base=2, device=c_noise.device)
    phase = c_noise[:, None] * frequencies
    return torch.cat([phase.cos(), phase.sin()], dim=1)
