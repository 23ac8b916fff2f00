"""The loss by which images are fitted to released means, shared by `generator` and `detail`."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


def matching_loss(
    features: torch.Tensor, record: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return the squared distance between a batch's mean features and the target, over all cells.

    The squared norm of the batch's mean is replaced by its unbiased estimate over distinct pairs of
    images (a U-statistic), and the constant ||target||^2 is left out:

        sum_c weight_c ((||T_c||^2 - O_c) / (n_c (n_c - 1)) - 2 T_c . target_c / n_c),

    where T_c is the sum of the features of the n_c images of cell c, and O_c that of their squared
    norms. Cells with fewer than two images do not count.

    Args:
        features: (B, size).
        record: (B, cells) one-hot records.
        target: (cells, size).
        weight: (cells,).
    """
    value: torch.Tensor = _Matching.apply(features, record, target, weight)
    return value


class _Matching(torch.autograd.Function):
    """The loss with its gradient in two passes over the features, where autograd takes eight."""

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        record: torch.Tensor,
        target: torch.Tensor,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        count = record.sum(0)
        used, images = weight * (count > 1), count.clamp(min=1)
        of_pairs = used / (count * (count - 1)).clamp(min=1)
        total = record.T @ features
        own = record.T @ torch.linalg.vector_norm(features, dim=1).square()
        if ctx.needs_input_grad[0]:
            means = of_pairs[:, None] * total - (used / images)[:, None] * target
            gradient = record @ (2 * means)
            gradient.addcmul_(features, (record @ of_pairs)[:, None], value=-2)
            ctx.save_for_backward(gradient)
        square = of_pairs * (total.square().sum(1) - own)
        return (square - 2 * used / images * (total * target).sum(1)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None
