"""The training loop of DP-SGD: exact clipping and sums, and steps.

A subclass of Opacus' optimiser clips, sums and adds noise in integers on a public grid
(`privacy.grid`). The mechanism's parameters, privacy cost and proof are in `dp_sgd`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from dagster_project.image.layers import Engine
from dagster_project.image.threads import Threads
from dagster_project.image.training_state import Ema, TrainingState, current_state, restore
from dagster_project.privacy.grid import UNITS, clipped_sum
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.sampling import poisson_sample


class Parameters(Protocol):
    """The parameters of `dp_sgd.DPSGD` that the loop reads."""

    @property
    def noise_multiplier(self) -> float: ...
    @property
    def max_grad_norm(self) -> float: ...
    @property
    def sample_rate(self) -> float: ...
    @property
    def expected_batch_size(self) -> float: ...
    @property
    def steps(self) -> int: ...


@dataclass(frozen=True)
class ClippedSums:
    """The sum of the clipped gradients of some people, in integers of the grid. Private.

    Attributes:
        total: int64 (P,), all parameters one after the other.
        max_grad_norm: Norm to which each gradient was clipped; the unit is this / 2^24.
    """

    total: np.ndarray
    max_grad_norm: float


class _Scratch(threading.local):
    """Memory for the gradients of a microbatch, one for each thread, that is used again."""

    rows: torch.Tensor | None = None


class SecureDPOptimizer(DPOptimizer):
    """Opacus' DPOptimizer on integers: clipping, exact sums and `SecureGenerator` noise."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        mechanism: Parameters,
        secure_generator: SecureGenerator,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.max_grad_norm,
            expected_batch_size=mechanism.expected_batch_size,
            loss_reduction="mean",
        )
        self._secure_generator = secure_generator
        self.scratch = _Scratch()

    def clipped_sum(self, rows: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        """Return the sum of the examples' clipped gradients, integers (P,) in units of the grid.

        Args:
            rows: (B, P), the gradients.
            present: bool (B,), the examples that count; None counts all.
        """
        self._secure_generator.note("max_grad_norm", self.max_grad_norm)
        return clipped_sum(rows, max_norm=self.max_grad_norm, present=present)

    def received(self, sums: ClippedSums) -> torch.Tensor:
        """Return sums that were computed elsewhere, as `clipped_sum` would."""
        self._secure_generator.note("max_grad_norm", sums.max_grad_norm)
        return torch.tensor(sums.total, device=self.params[0].device)

    def draw_noise(self) -> np.ndarray:
        """Draw N(0, (noise_multiplier max_grad_norm)^2 I), rounded to the grid, int64 (P,)."""
        size = sum(p.numel() for p in self.params)
        return self._secure_generator.rounded_gaussian(size, sigma=self.noise_multiplier * UNITS)

    def release(self, total: torch.Tensor, noise: np.ndarray) -> None:
        """Set `grad` to the noisy sum. What follows is post-processing of integers."""
        noisy = (total.cpu().long() + torch.from_numpy(noise)).double()
        noisy = noisy * (self.max_grad_norm / UNITS)
        for p, part in zip(self.params, noisy.split([p.numel() for p in self.params]), strict=True):
            p.grad = part.view(p.shape).to(p.device, p.dtype)

    def divide(self) -> None:
        """Divide the noisy sum by the public expected batch size."""
        divisor = self.expected_batch_size
        self._secure_generator.note("divisor", divisor)
        for p in self.params:
            p.grad /= divisor


Microbatch = Mapping[str, torch.Tensor] | ClippedSums


def private_step(
    optimizer: SecureDPOptimizer,
    named_parameters: Mapping[str, nn.Parameter],
    microbatches: Iterator[Microbatch],
    engine: Engine,
    threads: Threads | None = None,
) -> None:
    """Take one step over all microbatches of a Poisson batch; an empty batch still gets noise.

    Clips each example, sums over the microbatches, adds noise once, divides by the public
    expected batch size and updates the parameters. `present`, bool (B,), may mark the rows of a
    microbatch that are people; the others are padding. The sums of some microbatches may have been
    computed elsewhere (`shared_steps`).
    """
    first = next(iter(named_parameters.values()))
    total = torch.zeros(
        sum(p.numel() for p in named_parameters.values()), dtype=torch.int64, device=first.device
    )
    summed = partial(_summed, optimizer, engine)
    if threads is None:
        for part in map(summed, microbatches):
            total = total + part
        noise = optimizer.draw_noise()
    else:
        drawn = threads.submit(optimizer.draw_noise)
        for part in threads.map(summed, microbatches):
            total = total + part
        noise = drawn.result()
    optimizer.release(total, noise)
    optimizer.divide()
    optimizer.original_optimizer.step()
    optimizer.original_optimizer.zero_grad(set_to_none=True)


def _summed(
    optimizer: SecureDPOptimizer,
    engine: Engine,
    batch: Microbatch,
) -> torch.Tensor:
    """Return the sum of the clipped gradients of one microbatch, integers (P,)."""
    if isinstance(batch, ClippedSums):
        return optimizer.received(batch)
    examples = {name: part for name, part in batch.items() if name != "present"}
    scratch = optimizer.scratch
    if scratch.rows is not None and len(scratch.rows) != len(next(iter(examples.values()))):
        scratch.rows = None
    scratch.rows = engine(examples, scratch.rows)
    with torch.autocast(scratch.rows.device.type, enabled=False):  # sums are integers
        return optimizer.clipped_sum(scratch.rows, batch.get("present"))


def clipped_sums(
    named_parameters: Mapping[str, nn.Parameter],
    microbatches: Iterator[Microbatch],
    engine: Engine,
    *,
    mechanism: Parameters,
) -> ClippedSums:
    """Return the exact part of `private_step`, which adds no noise and changes no parameter."""
    sgd = torch.optim.SGD(named_parameters.values(), lr=0.0)
    optimizer = SecureDPOptimizer(sgd, mechanism, SecureGenerator())
    size = sum(p.numel() for p in named_parameters.values())
    total = torch.zeros(size, dtype=torch.int64, device=optimizer.params[0].device)
    for batch in microbatches:
        total = total + _summed(optimizer, engine, batch)
    return ClippedSums(total.cpu().numpy(), optimizer.max_grad_norm)


def train_private(
    model: nn.Module,
    engine: Engine,
    make_microbatches: Callable[[np.ndarray], Iterator[Microbatch]],
    people: int,
    *,
    mechanism: Parameters,
    learning_rate: float,
    ema_half_life: float,
    checkpoint_steps: int,
    authorise: Callable[[int, int], None],
    save: Callable[[TrainingState], None],
    resume: TrainingState | None,
    generator: SecureGenerator,
    progress: Callable[[float, str], None],
) -> dict[str, torch.Tensor]:
    """Run DP-SGD and return the averaged parameters of the last step.

    Args:
        model: The network, trained in place.
        engine: Per-example gradients of the network.
        make_microbatches: Function from the indices of a Poisson batch to microbatches of
            tensors, or to sums over them.
        people: Number of private pairs, used only for Poisson sampling.
        mechanism: The plan's parameters.
        learning_rate: Initial rate of Adam; it falls to zero by `cosine_rate`.
        ema_half_life: Half-life of the average, in steps.
        checkpoint_steps: Steps between checkpoints, and length of an authorised range.
        authorise: Called with (first, last + 1) before any step of that range runs; durable.
        save: Called with the state after each range.
        resume: State to resume from.
        generator: The operating system's randomness.
        progress: Callback that receives the fraction done and a text without private content.

    Returns:
        Averaged parameters by name.
    """
    parameters = dict(model.named_parameters())
    adam = torch.optim.Adam(parameters.values(), lr=learning_rate)
    optimizer = SecureDPOptimizer(adam, mechanism, generator)
    ema = Ema(model, half_life=ema_half_life)
    start = 0
    if resume is not None:
        start = resume.step
        restore(resume, model, ema, adam, parameters)
    device = next(iter(parameters.values())).device
    with Threads(device) as threads:
        for first in range(start, mechanism.steps, checkpoint_steps):
            last = min(first + checkpoint_steps, mechanism.steps)
            authorise(first, last)
            for step in range(first, last):
                chosen = poisson_sample(
                    people, sample_rate=mechanism.sample_rate, generator=generator
                )
                for group in adam.param_groups:
                    group["lr"] = cosine_rate(learning_rate, step, mechanism.steps)
                # Kernels chosen by timing, or that add in any order, do not reproduce their last
                # bits.
                with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
                    private_step(optimizer, parameters, make_microbatches(chosen), engine, threads)
                ema.update(model)
                progress(
                    (step + 1) / mechanism.steps, f"DP-SGD step {step + 1} of {mechanism.steps}"
                )
            save(current_state(last, model, ema, adam, parameters))
    return ema.average


def cosine_rate(first: float, step: int, steps: int) -> float:
    """Return the learning rate of a step: half a cosine from `first` to zero.

    Late steps are small, so that the final parameters retain less noise of single steps.
    """
    return first * (1 + math.cos(math.pi * step / steps)) / 2
