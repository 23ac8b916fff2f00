"""Per-example gradients behind one interface: three engines that differ only in speed.

`vmap` differentiates a function of one example for a whole batch, `loop` one example after the
other (exact by construction), and `layers` runs one ordinary batched backward pass (`layers`). All
return the gradient of each example's own loss, before any clipping, and the tests compare them
with each other. Clipping and noise are in `private_training`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from copy import deepcopy
from typing import Literal

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from dagster_project.image import layers
from dagster_project.image.layers import Batch, Engine, Losses, Rows, trained

Kind = Literal["layers", "vmap", "loop"]


def per_example_engine(model: nn.Module, losses: Losses, kind: Kind) -> Engine:
    """Return a function from a batch to per-example gradients; several threads may call it.

    Args:
        model: The network; gradients are taken for its parameters that require one.
        losses: Function of (network, tensors (B, ...)) that returns the losses (B,) of B examples,
            each of which depends on its own entries only.
        kind: The engine; `fastest` measures which one to use.

    Returns:
        See `Engine`.
    """
    return layers.engine(model, losses) if kind == "layers" else _functional(model, losses, kind)


def _functional(model: nn.Module, losses: Losses, kind: Literal["vmap", "loop"]) -> Engine:
    """Return an engine by `torch.func`, from the loss of a batch of one example."""
    local = _Copy(model)  # a call replaces the module's parameters for its time

    def loss(parameters: Batch, example: Batch) -> torch.Tensor:
        def network(*args: torch.Tensor) -> torch.Tensor:
            return functional_call(local.model, dict(parameters), args)

        return losses(network, {name: part[None] for name, part in example.items()})[0]

    one = grad(loss)
    batched = vmap(one, in_dims=(None, 0))

    def by_vmap(batch: Batch, out: torch.Tensor | None = None) -> torch.Tensor:
        parameters = trained(model)
        rows = Rows(parameters, len(next(iter(batch.values()))), out)
        for name, part in batched(parameters, dict(batch)).items():
            rows.add(name, part)
        return rows.complete()

    def by_loop(batch: Batch, out: torch.Tensor | None = None) -> torch.Tensor:
        parameters, people = trained(model), len(next(iter(batch.values())))
        rows = Rows(parameters, people, out)
        found = [one(parameters, {k: v[i] for k, v in batch.items()}) for i in range(people)]
        for name in parameters:
            rows.add(name, torch.stack([row[name] for row in found]))
        return rows.complete()

    return by_vmap if kind == "vmap" else by_loop


class _Copy(threading.local):
    """A copy of a module for each thread; frozen parameters and buffers keep their values."""

    def __init__(self, model: nn.Module) -> None:
        self.model = deepcopy(model)


_AGREEMENT = 1e-4  # of an example's whole gradient; both engines compute in single precision
_TRIES = 3


def fastest(model: nn.Module, losses: Losses, batch: Batch) -> Kind:
    """Return the engine that is fastest here, from a short measurement on drawn numbers.

    `layers` is chosen if it is faster than `vmap` and agrees with it, which covers networks that it
    cannot take. The choice depends on the machine and on public shapes, and a process makes it once
    for each of them.

    Args:
        model: The network.
        losses: As for `per_example_engine`.
        batch: Tensors of a microbatch's shapes, types and device; their values are not used.
    """
    drawn = {name: _drawn(part) for name, part in batch.items()}
    parameters = [(name, p.shape, p.device) for name, p in model.named_parameters()]
    shapes = [(name, part.shape, part.dtype) for name, part in sorted(drawn.items())]
    key = (type(model), losses, torch.get_num_threads(), *parameters, *shapes)
    with _choosing:
        if key not in _chosen:
            exact, candidate = (
                per_example_engine(model, losses, kind) for kind in ("vmap", "layers")
            )
            usable = agrees(candidate, exact, drawn)
            faster = usable and _seconds(candidate, drawn) < _seconds(exact, drawn)
            _chosen[key] = "layers" if faster else "vmap"
        return _chosen[key]


_choosing = threading.Lock()
_chosen: dict[Hashable, Kind] = {}


def ignores_places(engine: Engine, batch: Batch) -> bool:
    """Return whether all gradients stay the same, to the last bit, when examples change places.

    A kernel may treat the rows at the edge of a product in another way; then who else was sampled
    would decide on an example's last bits.
    """
    moved = engine({name: part.roll(1, dims=0) for name, part in batch.items()})
    return torch.equal(engine(batch).roll(1, dims=0), moved)


def agrees(candidate: Engine, exact: Engine, batch: Batch) -> bool:
    """Return whether two engines give the same gradients, up to rounding, without an error."""
    expected = exact(batch)
    try:
        found = candidate(batch)
    except RuntimeError:  # a layer that it cannot take
        return False
    if found.shape != expected.shape:
        return False
    error, whole = (rows.double().square().sum(dim=1) for rows in (found - expected, expected))
    return bool((error <= _AGREEMENT**2 * whole).all())


def _drawn(part: torch.Tensor) -> torch.Tensor:
    """Return uniform numbers in (.1, 1) in the shape, type and place of a tensor."""
    uniform = torch.rand(part.shape, generator=torch.Generator().manual_seed(0))
    return (0.1 + 0.9 * uniform).to(part.device, part.dtype)


def _seconds(engine: Engine, batch: Batch) -> float:
    """Return the shortest time of a few calls."""
    times = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        if (rows := engine(batch)).is_cuda:
            torch.cuda.synchronize(rows.device)
        times.append(time.perf_counter() - started)
    return min(times)
