"""A small conditional U-Net with GroupNorm only and cross-attention to table tokens.

Batch normalisation is absent by design: it mixes people and has no per-example gradient. Images are
split into patches of `patch` x `patch` pixels, which quarters the cost of every layer after the
stem; depth follows from the size so that the lowest level is about 7 pixels wide. Noise levels,
losses and sampling are in `edm`.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from dagster_project.image.noise_level import NOISE_FEATURES, noise_features
from dagster_project.image.table_encoder import RecordLayout, TableEncoder
from dagster_project.settings.diffusion import NetworkSettings


class Residual(nn.Module):
    """Two convolutions, the second modulated: (B, C_in, h, w), (B, E) -> (B, C_out, h, w)."""

    def __init__(self, inputs: int, outputs: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_groups(inputs), inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulate = nn.Linear(embedding, 2 * outputs)
        self.norm2 = nn.GroupNorm(_groups(outputs), outputs)
        self.conv2 = _zero(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.modulate(embedding)[..., None, None].chunk(2, dim=1)
        h = self.conv2(functional.silu(self.norm2(h) * (1 + scale) + shift))
        return self.skip(x) + h


class Attention(nn.Module):
    """Attention of pixels to each other and to the table's tokens in one softmax.

    Shapes: (B, C, h, w), (B, d, T) -> (B, C, h, w).
    """

    def __init__(self, channels: int, token_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.query = nn.Conv2d(channels, 3 * channels, 1)
        self.tokens = nn.Linear(token_size, 2 * channels)
        self.out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        query, key, value = self.query(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)
        table_key, table_value = self.tokens(tokens).chunk(2, dim=-1)
        key = self._split(torch.cat([key, table_key], dim=1))
        value = self._split(torch.cat([value, table_value], dim=1))
        scores = self._split(query) @ key.transpose(-1, -2) / math.sqrt(c // self.heads)
        mixed = scores.softmax(dim=-1) @ value  # (B, heads, h w, C / heads)
        return x + self.out(mixed.transpose(1, 2).reshape(b, h * w, c).mT.reshape(b, c, h, w))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        return x.reshape(b, n, self.heads, c // self.heads).transpose(1, 2)


class UNet(nn.Module):
    """The raw network F(x, c_noise, record) inside EDM's preconditioning.

    Args:
        layout: Blocks of the soft record.
        settings: Public architecture settings.
        image_channels: 1 or 3.
    """

    def __init__(
        self, layout: RecordLayout, settings: NetworkSettings, *, image_channels: int
    ) -> None:
        super().__init__()
        self.settings = settings
        widths, token = settings.channels, settings.token_size
        embedding = 2 * widths[-1]
        self.table = TableEncoder(layout, token)
        self.noise = nn.Sequential(nn.Linear(NOISE_FEATURES, embedding), nn.SiLU())
        self.pooled = nn.Linear(token * len(layout.sizes), embedding)
        self.embed = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU())
        pixels = image_channels * settings.patch**2
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, width in enumerate(widths):
            above = widths[max(level - 1, 0)]
            self.down.append(Residual(above, width, embedding))
            self.up.insert(0, Residual(2 * width, above, embedding))
        self.middle = Attention(widths[-1], token, settings.heads)
        self.norm = nn.GroupNorm(_groups(widths[0]), widths[0])
        self.head = _zero(nn.Conv2d(widths[0], pixels, 3, padding=1))

    def forward(
        self,
        x: torch.Tensor,
        c_noise: torch.Tensor,
        record: torch.Tensor,
        condition_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return one prediction for each image.

        Args:
            x: (B, C, H, W) scaled noisy images.
            c_noise: (B,) scaled logarithm of the noise level.
            record: (B, width) soft records.
            condition_mask: (B,) one to condition on the record, zero for the null record.

        Returns:
            (B, C, H, W).
        """
        tokens = self.table(record, condition_mask)
        emb = self.embed(self.noise(noise_features(c_noise)) + self.pooled(tokens.flatten(1)))
        height, width = x.shape[-2:]
        multiple = self.settings.patch * 2 ** (len(self.settings.channels) - 1)
        x = functional.pad(x, (0, -width % multiple, 0, -height % multiple))
        h = self.stem(functional.pixel_unshuffle(x, self.settings.patch))
        skips = []
        for level, block in enumerate(self.down):
            h = functional.avg_pool2d(h, 2) if level else h
            h = block(h, emb)
            skips.append(h)
        h = self.middle(h, tokens)
        for level, block in enumerate(self.up):
            h = functional.interpolate(h, scale_factor=2.0, mode="nearest") if level else h
            h = block(torch.cat([h, skips.pop()], dim=1), emb)
        h = self.head(functional.silu(self.norm(h)))
        return functional.pixel_shuffle(h, self.settings.patch)[..., :height, :width]


def _groups(channels: int) -> int:
    return math.gcd(8, channels)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    # Blocks start as the identity, so that depth does no harm at the first step.
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
