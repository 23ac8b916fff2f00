"""Per-example gradients from one batched backward pass, layer by layer.

A layer's weight gradient is a product of its inputs and of the gradients of its outputs
(Goodfellow, "Efficient per-example gradient computations", 2015). One ordinary forward and backward
pass over all rows, which are people times noise draws, gives both, and one product for each person,
over that person's rows and positions, is the person's gradient. Opacus' hooks do the same
(Yousefpour et al. 2021), but take each row for a person. The pass does not compute the gradient of
the whole batch, whose place this takes.

Ghost clipping (Li et al. 2022) and book-keeping (Bu et al. 2023), which Opacus has as
`GradSampleModuleFastGradientClipping`, sum in floating point without single gradients. Such sums
depend on the order of people, so their rounding error would have to be charged (`dp_sgd`). With
several rows and positions for each person there is also nothing to gain: a person's gradient has
fewer numbers than the person's activations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

Gradients = dict[str, torch.Tensor]
Batch = Mapping[str, torch.Tensor]
Engine = Callable[[Batch], Gradients]
# Losses (B,) of B examples from a callable network and the examples' tensors (B, ...).
Losses = Callable[[Callable[..., torch.Tensor], Batch], torch.Tensor]
# Name and per-example gradient of a layer's parameters, from the layer, its input, the gradient of
# its output and the number of examples.
Rule = Callable[[Any, torch.Tensor, torch.Tensor, int], Iterator[tuple[str, torch.Tensor]]]


def engine(model: nn.Module, losses: Losses) -> Engine:
    """Return the engine `layers` of `gradients.per_example_engine`.

    Rows of one example must follow each other along the first axis of every layer's input, and all
    examples must have the same number of them. A parameter that belongs to no layer with a rule is
    repeated for each row; it must be used so that it may have such a leading axis. Whether a
    network is so is seen by comparison on drawn input (`gradients.fastest`).
    """
    local = _Tapped(model)

    def gradients(batch: Batch) -> Gradients:
        people = len(next(iter(batch.values())))
        found: Gradients = {}

        def add(name: str, gradient: torch.Tensor) -> None:
            found[name] = found[name] + gradient if name in found else gradient

        def network(*args: torch.Tensor) -> torch.Tensor:
            return local.call(args, people, add)

        parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        local.parameters = dict(parameters)
        losses(network, batch).sum().backward()
        return {
            name: found[name] if name in found else p.new_zeros(people, *p.shape)
            for name, p in parameters.items()
        }

    return gradients


class _Tapped(threading.local):
    """A copy of the network, one for each thread, that reports what passes its layers."""

    def __init__(self, model: nn.Module) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self.parameters: Gradients = {}
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        self.loose = set(trained)
        for name, layer in self.model.named_modules():
            own = {f"{name}.{n}".lstrip(".") for n, _ in layer.named_parameters(recurse=False)}
            if own & trained and _has_rule(layer):
                layer.register_forward_hook(partial(self._tap, name))
                self.loose -= own

    def call(
        self,
        args: tuple[torch.Tensor, ...],
        people: int,
        add: Callable[[str, torch.Tensor], None],
    ) -> torch.Tensor:
        """Run the network; `add` receives gradients by name in the backward pass."""
        self.people, self.add = people, add
        parameters = dict(self.parameters)
        for name in self.loose:
            rows = parameters[name].expand(len(args[0]), *parameters[name].shape).requires_grad_()
            rows.register_hook(partial(_loose, name, people, add))
            parameters[name] = rows
        return functional_call(self.model, parameters, args)

    def _tap(
        self,
        name: str,
        layer: nn.Module,
        inputs: tuple[torch.Tensor, ...],
        output: torch.Tensor,
    ) -> None:
        if not output.requires_grad:  # nothing before it is trained
            output.requires_grad_()
        seen, people, add, rule = inputs[0].detach(), self.people, self.add, RULES[type(layer)]
        kind = next(layer.parameters()).dtype

        def take(gradient: torch.Tensor) -> None:  # on a GPU, this runs in another thread
            with torch.autocast(gradient.device.type, enabled=False):
                for own, part in rule(layer, seen.to(kind), gradient.to(kind), people):
                    add(f"{name}.{own}".lstrip("."), part)

        output.register_hook(take)


def _has_rule(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return type(layer) in RULES and plain and layer.groups == 1
    return type(layer) in RULES


def _loose(name: str, people: int, add: Callable[..., None], gradient: torch.Tensor) -> None:
    """Take the gradient of a parameter that was repeated for each row."""
    add(name, gradient.unflatten(0, (people, -1)).sum(dim=1))


def _linear(
    layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor, people: int
) -> Iterator[tuple[str, torch.Tensor]]:
    gradient = gradient.reshape(people, -1, gradient.shape[-1])
    yield "weight", torch.bmm(gradient.mT, x.reshape(people, -1, x.shape[-1]))
    yield "bias", gradient.sum(dim=1)


def _convolution(
    layer: nn.Conv2d, x: torch.Tensor, gradient: torch.Tensor, people: int
) -> Iterator[tuple[str, torch.Tensor]]:
    own = gradient.unflatten(0, (people, -1))  # (B, rows of a person, C_out, h, w)
    if x.is_cuda:
        patches = functional.unfold(
            x, layer.kernel_size, layer.dilation, layer.padding, layer.stride
        ).unflatten(0, (people, -1))  # (B, rows of a person, C_in k k, positions)
        weight = torch.einsum("bkop,bkcp->boc", own.flatten(3), patches)
    else:  # a grouped convolution, which on a CPU takes half the time of unfolding
        weight = _grouped(layer, own, x.unflatten(0, (people, -1)))
    yield "weight", weight.reshape(people, *layer.weight.shape)
    yield "bias", own.sum(dim=(1, 3, 4))


def _grouped(layer: nn.Conv2d, gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the gradient (B C_out, C_in, k, k) of a convolution with a group for each example.

    Args:
        layer: The convolution.
        gradient: (B, K, C_out, h, w).
        x: (B, K, C_in, H, W).
    """
    weight = layer.weight.new_empty(len(x) * layer.weight.shape[0], *layer.weight.shape[1:])
    found = torch.ops.aten.convolution_backward(
        gradient.transpose(0, 1).flatten(1, 2), x.transpose(0, 1).flatten(1, 2),
        weight, None, layer.stride, layer.padding, layer.dilation, False, [0, 0], len(x),
        [False, True, False],
    )  # fmt: skip
    return found[1]


def _group_norm(
    layer: nn.GroupNorm, x: torch.Tensor, gradient: torch.Tensor, people: int
) -> Iterator[tuple[str, torch.Tensor]]:
    normal = functional.group_norm(x, layer.num_groups, eps=layer.eps)
    for name, part in (("weight", gradient * normal), ("bias", gradient)):
        yield name, part.flatten(2).sum(dim=2).unflatten(0, (people, -1)).sum(dim=1)


def _layer_norm(
    layer: nn.LayerNorm, x: torch.Tensor, gradient: torch.Tensor, people: int
) -> Iterator[tuple[str, torch.Tensor]]:
    normal = functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    for name, part in (("weight", gradient * normal), ("bias", gradient)):
        yield name, part.reshape(people, -1, *layer.normalized_shape).sum(dim=1)


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
