"""Per-example gradients behind one interface: `vmap` (batched) or `loop` (exact by construction).

Both return the gradient of each example's own loss, before any clipping. They differ only in speed,
and the tests compare them with each other. Clipping and noise are in `private_training`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

Gradients = dict[str, torch.Tensor]
Engine = Callable[[Mapping[str, torch.Tensor]], Gradients]
# Loss of one example from a callable network and that example's tensors.
ExampleLoss = Callable[[Callable[..., torch.Tensor], Mapping[str, torch.Tensor]], torch.Tensor]


def per_example_engine(
    model: nn.Module, example_loss: ExampleLoss, kind: Literal["vmap", "loop"]
) -> Engine:
    """Return a function from a batch to per-example gradients.

    Args:
        model: The network; gradients are taken for its parameters that require one.
        example_loss: Scalar loss of ONE example: (network, tensors without batch axis) -> ().
        kind: `vmap` differentiates a whole batch at once, `loop` one example at a time.

    Returns:
        engine(batch), where batch maps names to tensors (B, ...); it returns a tensor
        (B, *parameter.shape) for each parameter name.
    """
    frozen = {n: p.detach() for n, p in model.named_parameters() if not p.requires_grad}
    frozen |= {n: b.detach() for n, b in model.named_buffers()}

    def loss(parameters: Gradients, example: dict[str, torch.Tensor]) -> torch.Tensor:
        def network(*args: torch.Tensor) -> torch.Tensor:
            return functional_call(model, {**frozen, **parameters}, args)

        return example_loss(network, example)

    one = grad(loss)
    batched = vmap(one, in_dims=(None, 0))

    def trainable() -> Gradients:
        return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def by_vmap(batch: Mapping[str, torch.Tensor]) -> Gradients:
        return batched(trainable(), dict(batch))

    def by_loop(batch: Mapping[str, torch.Tensor]) -> Gradients:
        parameters, size = trainable(), len(next(iter(batch.values())))
        rows = [one(parameters, {k: v[i] for k, v in batch.items()}) for i in range(size)]
        return {name: torch.stack([row[name] for row in rows]) for name in parameters}

    return by_vmap if kind == "vmap" else by_loop
