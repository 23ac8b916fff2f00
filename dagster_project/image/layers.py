"""Per-example gradients from one batched backward pass, layer by layer.

A layer's weight gradient is a product of its inputs and of the gradients of its outputs
(Goodfellow, "Efficient per-example gradient computations", 2015). One ordinary forward and backward
pass over all rows, which are people times noise draws, gives both, and one product for each person,
over that person's rows and positions, is the person's gradient. Opacus' hooks do the same
(Yousefpour et al. 2021), but take each row for a person. The pass skips the weight gradient of the
whole batch.

Ghost clipping (Li et al. 2022) and book-keeping (Bu et al. 2023), which Opacus has as
`GradSampleModuleFastGradientClipping`, sum in floating point without single gradients. Such sums
depend on the order of people, so their rounding error would have to be charged (`dp_sgd`). With
several rows and positions for each person there is also nothing to gain: a person's gradient has
fewer numbers than the person's activations.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

Batch = Mapping[str, torch.Tensor]
# Losses (B,) of B examples from a callable network and the examples' tensors (B, ...).
Losses = Callable[[Callable[..., torch.Tensor], Batch], torch.Tensor]


class Engine(Protocol):
    """Function from a batch to the gradients of its examples."""

    def __call__(self, batch: Batch, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return one row for each example, (B, P): all trained parameters one after the other.

        Args:
            batch: Names and tensors (B, ...).
            out: What an earlier call for B examples returned, to be overwritten. None takes new
                memory, which the system may have to clear first.
        """
        ...


def engine(model: nn.Module, losses: Losses) -> Engine:
    """Return the engine `layers` of `gradients.per_example_engine`.

    Rows of one example must follow each other along the first axis of every layer's input, and all
    examples must have the same number of them. A parameter that belongs to no layer with a rule is
    repeated for each row; it must be used so that it may have such a leading axis. Whether a
    network is so is seen by comparison on drawn input (`gradients.fastest`).
    """
    local = _Tapped(model)

    def gradients(batch: Batch, out: torch.Tensor | None = None) -> torch.Tensor:
        parameters = trained(model)
        rows = Rows(parameters, len(next(iter(batch.values()))), out)

        local.rows, local.ends = rows, []

        def network(*args: torch.Tensor) -> torch.Tensor:
            return local.call(args, parameters)

        try:
            # The taps receive all gradients on the way to these.
            torch.autograd.grad(losses(network, batch).sum(), local.ends, allow_unused=True)
        finally:
            del local.rows  # its memory is the caller's
            local.ends = []
            torch.clear_autocast_cache()  # it would keep the weights of every call
        return rows.complete()

    return gradients


def trained(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the parameters that require a gradient, detached, in the order of a row."""
    return {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


class Rows:
    """The gradients of some people, one row for each, in one matrix (B, P).

    Args:
        parameters: The trained parameters.
        people: B.
        out: See `Engine`.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], people: int, out: torch.Tensor | None = None
    ) -> None:
        sizes = [p.numel() for p in parameters.values()]
        if out is None:
            # All rows begin at the same offset from a cache line, so that no kernel can treat one
            # person's memory in another way than the next one's.
            stride = math.ceil(sum(sizes) / _LINE) * _LINE
            first = next(iter(parameters.values()))
            out = first.new_empty(people, stride)[:, : sum(sizes)]
        self.people = people
        self._matrix = out
        self._parts = {
            name: part.view(people, *p.shape)
            for (name, p), part in zip(parameters.items(), out.split(sizes, dim=1), strict=True)
        }
        self._unwritten = set(self._parts)

    def add(self, name: str, part: torch.Tensor) -> None:
        """Add (B, *shape) to the gradients of a parameter; one that is not trained is left out."""
        if name in self._unwritten:
            self._unwritten.remove(name)
            self._parts[name].copy_(part)
        elif name in self._parts:
            self._parts[name].add_(part)

    def add_products(self, name: str, left: torch.Tensor, right: torch.Tensor) -> None:
        """Add the products of B pairs of matrices (m, n) and (n, k), in the parameter's shape."""
        if name not in self._parts:
            return
        part = self._parts[name]
        if left.shape[2] > 1 or name not in self._unwritten:
            self.add(name, torch.bmm(left, right).view_as(part))
        else:  # of two vectors: written in its place, where a product of matrices takes longer
            self._unwritten.remove(name)
            torch.mul(left, right, out=part.view(self.people, left.shape[1], right.shape[2]))

    def complete(self) -> torch.Tensor:
        """Return the matrix; parameters without a gradient have zeros."""
        for name in self._unwritten:
            self._parts[name].zero_()
        return self._matrix


_LINE = 16  # float32 numbers in a cache line


class _Tapped(threading.local):
    """A copy of the network, one for each thread, that reports what passes its layers.

    Attributes:
        rows: Receives the gradients in the backward pass.
        ends: Where a backward pass may end: outputs of the first layers, and repeated parameters.
            It does not go on to the weights, whose gradients would be those of the whole batch.
    """

    rows: Rows
    ends: list[torch.Tensor]

    def __init__(self, model: nn.Module) -> None:
        self.model = deepcopy(model).requires_grad_(False)
        self.loose = set(trained(model))
        for name, layer in self.model.named_modules():
            own = {f"{name}.{n}".lstrip(".") for n, _ in layer.named_parameters(recurse=False)}
            if own & trained(model).keys() and _has_rule(layer):
                layer.register_forward_hook(partial(self._tap, name))
                self.loose -= own

    def call(
        self, args: tuple[torch.Tensor, ...], parameters: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Run the network with these parameters."""
        used = {}
        for name, p in parameters.items():
            used[name] = p.expand(len(args[0]), *p.shape) if name in self.loose else p
            # torch takes faster products for weights that require a gradient.
            used[name].requires_grad_()
            if name in self.loose:
                used[name].register_hook(partial(_loose, name, self.rows))
                self.ends.append(used[name])
        return functional_call(self.model, used, args)

    def _tap(
        self,
        name: str,
        layer: nn.Module,
        inputs: tuple[torch.Tensor, ...],
        output: torch.Tensor,
    ) -> None:
        if not inputs[0].requires_grad:  # nothing before it is trained
            self.ends.append(output)
        seen, rows, rule = inputs[0].detach(), self.rows, RULES[type(layer)]
        kind, prefix = next(layer.parameters()).dtype, f"{name}." if name else ""

        def take(gradient: torch.Tensor) -> None:  # on a GPU, this runs in another thread
            with torch.autocast(gradient.device.type, enabled=False):
                rule(layer, seen.to(kind), gradient.to(kind), rows, prefix)

        output.register_hook(take)


def _has_rule(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return type(layer) in RULES and plain and layer.groups == 1
    return type(layer) in RULES


def _loose(name: str, rows: Rows, gradient: torch.Tensor) -> None:
    """Take the gradient of a parameter that was repeated for each row."""
    rows.add(name, gradient.unflatten(0, (rows.people, -1)).sum(dim=1))


def _linear(
    layer: nn.Module, x: torch.Tensor, gradient: torch.Tensor, rows: Rows, prefix: str
) -> None:
    gradient = gradient.reshape(rows.people, -1, gradient.shape[-1])
    x = x.reshape(rows.people, -1, x.shape[-1])
    rows.add_products(f"{prefix}weight", gradient.mT, x)
    rows.add(f"{prefix}bias", gradient.sum(dim=1))


def _convolution(
    layer: nn.Conv2d, x: torch.Tensor, gradient: torch.Tensor, rows: Rows, prefix: str
) -> None:
    own = gradient.unflatten(0, (rows.people, -1))  # (B, K, C_out, h, w)
    pointwise = layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0)
    if pointwise or x.is_cuda:
        patches = (
            x.flatten(2)
            if pointwise
            else functional.unfold(
                x, layer.kernel_size, layer.dilation, layer.padding, layer.stride
            )
        )  # (B K, C_in k k, positions)
        patches = _by_position(patches.unflatten(0, (rows.people, -1)))
        rows.add_products(f"{prefix}weight", _by_position(own.flatten(3)), patches.mT)
    else:  # a grouped convolution, which on a CPU takes half the time of unfolding
        weight = _grouped(layer, own, x.unflatten(0, (rows.people, -1)))
        rows.add(f"{prefix}weight", weight.unflatten(0, (rows.people, -1)))
    rows.add(f"{prefix}bias", own.sum(dim=(1, 3, 4)))


def _by_position(x: torch.Tensor) -> torch.Tensor:
    """Put all positions of a person along one axis: (B, K, C, n) -> (B, C, K n)."""
    return x.transpose(1, 2).flatten(2)


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
    layer: nn.GroupNorm, x: torch.Tensor, gradient: torch.Tensor, rows: Rows, prefix: str
) -> None:
    normal = functional.group_norm(x, layer.num_groups, eps=layer.eps)
    for name, part in (("weight", gradient * normal), ("bias", gradient)):
        rows.add(
            prefix + name, part.flatten(2).sum(dim=2).unflatten(0, (rows.people, -1)).sum(dim=1)
        )


def _layer_norm(
    layer: nn.LayerNorm, x: torch.Tensor, gradient: torch.Tensor, rows: Rows, prefix: str
) -> None:
    normal = functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    for name, part in (("weight", gradient * normal), ("bias", gradient)):
        rows.add(prefix + name, part.reshape(rows.people, -1, *layer.normalized_shape).sum(dim=1))


# Adds the gradients of a layer's parameters to the rows, from the layer, its input, the gradient of
# its output and the prefix of its parameters' names.
Rule = Callable[[Any, torch.Tensor, torch.Tensor, Rows, str], None]
RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
