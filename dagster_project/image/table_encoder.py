"""An encoder of soft records as tokens for cross-attention.

A soft record is a row of probability blocks, one for each attribute. A real or synthetic record is
the one-hot case; the record of a mean image contains the table model's conditional distributions
(DP-TabImage, Chen et al. 2026, section 4). Categorical attributes are encoded by their
probabilities, numeric ones by their expected range-normalised value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from dagster_project.data.schema import Schema


@dataclass(frozen=True)
class RecordLayout:
    """The blocks of a soft record, one per attribute, and which of them are numeric.

    Attributes:
        sizes: Number of cells of each attribute, including the missing one.
        midpoints: Range-normalised bin midpoints of each numeric attribute, None for the others.
    """

    sizes: tuple[int, ...]
    midpoints: tuple[tuple[float, ...] | None, ...]

    @classmethod
    def of(cls, schema: Schema) -> RecordLayout:
        return cls(
            sizes=schema.sizes,
            midpoints=tuple(
                tuple(float(m) for m in a.midpoints) if a.kind == "numeric" else None
                for a in schema.attributes
            ),
        )

    @property
    def width(self) -> int:
        return sum(self.sizes)


class TableEncoder(nn.Module):
    """A module that maps soft records (B, width) to one token per attribute (B, d, token_size).

    Args:
        layout: Blocks of the record.
        token_size: Width of a token.
    """

    membership: torch.Tensor
    value_map: torch.Tensor

    def __init__(self, layout: RecordLayout, token_size: int) -> None:
        super().__init__()
        attributes = len(layout.sizes)
        self.cells = nn.Parameter(torch.randn(layout.width, token_size) * 0.5)
        self.names = nn.Parameter(torch.randn(attributes, token_size) * 0.5)
        self.null = nn.Parameter(torch.randn(attributes, token_size) * 0.5)
        self.values = nn.Linear(_VALUE_FEATURES, token_size)
        self.mix = nn.Sequential(
            nn.Linear(token_size, token_size), nn.SiLU(), nn.Linear(token_size, token_size)
        )
        membership, value_map = _block_matrices(layout)
        self.register_buffer("membership", membership, persistent=False)
        self.register_buffer("value_map", value_map, persistent=False)

    def forward(self, record: torch.Tensor, condition_mask: torch.Tensor) -> torch.Tensor:
        """Return one token for each attribute.

        Args:
            record: (B, width) probability blocks.
            condition_mask: (B,) one to condition on the record, zero to use the null record instead
                (classifier-free guidance).

        Returns:
            (B, d, token_size).
        """
        blocks = record[:, None, :] * self.membership  # (B, d, width)
        tokens = blocks @ self.cells + self.names
        number = record @ self.value_map  # (B, 2 d): expected value, and its weight
        value, weight = number.chunk(2, dim=-1)
        harmonics = torch.stack(
            [f(value * k) for k in (1.5, 3.0, 6.0) for f in (torch.sin, torch.cos)], dim=-1
        )
        tokens = tokens + weight[..., None] * self.values(harmonics)
        tokens = tokens + self.mix(tokens)
        mask = condition_mask[:, None, None]
        return mask * tokens + (1 - mask) * self.null


_VALUE_FEATURES = 6


def _block_matrices(layout: RecordLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the categorical membership (d, width) and the numeric value map (width, 2 d)."""
    attributes = len(layout.sizes)
    membership = np.zeros((attributes, layout.width), np.float32)
    value_map = np.zeros((layout.width, 2 * attributes), np.float32)
    start = 0
    for i, (size, middle) in enumerate(zip(layout.sizes, layout.midpoints, strict=True)):
        numbers = len(middle or ())
        membership[i, start + numbers : start + size] = 1
        value_map[start : start + numbers, i] = middle or ()
        value_map[start : start + numbers, attributes + i] = 1
        start += size
    return torch.from_numpy(membership), torch.from_numpy(value_map)
