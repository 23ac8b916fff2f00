"""The training loop of DP-SGD: exact clipping and sums, steps, checkpoints.

A subclass of Opacus' optimiser clips, sums and adds noise in integers on a public grid
(`privacy.grid`). The mechanism's parameters, privacy cost and proof are in `dp_sgd`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from dagster_project.image.layers import Engine
from dagster_project.image.threads import Threads
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


class SecureDPOptimizer(DPOptimizer):
    """Opacus' DPOptimizer on integers, with exact clipping and sums and `SecureGenerator` noise."""

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

    def clipped_sum(
        self, gradients: Sequence[torch.Tensor], present: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the sum of the examples' clipped gradients, integers (P,) in units of the grid.

        Args:
            gradients: (B, *shape) for each parameter.
            present: bool (B,), the examples that count; None counts all.
        """
        self._secure_generator.note("max_grad_norm", self.max_grad_norm)
        return clipped_sum(gradients, max_norm=self.max_grad_norm, present=present)

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
    summed = partial(_summed, optimizer, named_parameters, engine)
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
    named_parameters: Mapping[str, nn.Parameter],
    engine: Engine,
    batch: Microbatch,
) -> torch.Tensor:
    """Return the sum of the clipped gradients of one microbatch, integers (P,)."""
    if isinstance(batch, ClippedSums):
        return optimizer.received(batch)
    gradients = engine({name: part for name, part in batch.items() if name != "present"})
    parts = [gradients[name].to(p.dtype) for name, p in named_parameters.items()]
    with torch.autocast(parts[0].device.type, enabled=False):  # sums are integers
        return optimizer.clipped_sum(parts, batch.get("present"))


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
        total = total + _summed(optimizer, named_parameters, engine, batch)
    return ClippedSums(total.cpu().numpy(), optimizer.max_grad_norm)


def fixed_microbatches(chosen: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Split one Poisson batch into microbatches that all have `size` rows.

    The last one is padded with repetitions that do not count: the shape of a product may change its
    last bits, and nobody's gradient may depend on how many others were sampled.

    Yields:
        Indices (size,), and `present` of `private_step`, bool (size,).
    """
    for start in range(0, len(chosen), size):
        some = chosen[start : start + size]
        yield np.resize(some, size), torch.arange(size) < len(some)


def own_draws(key: bytes, *content: np.ndarray) -> torch.Generator:
    """Return the source of one person's diffusion draws in a step.

    It is a function of the step's secret key and of the person's own content. So, given the key,
    nobody's gradient depends on who else was sampled, however few states torch's generator has;
    drawn in the order of the batch, one more person would change the draws of all that follow.

    Args:
        key: Fresh random bytes of the operating system for each step, at most 64.
        content: The person's arrays.
    """
    digest = hashlib.blake2b(key=key, digest_size=8)
    for part in content:
        digest.update(np.ascontiguousarray(part).tobytes())
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big") >> 1)


class Ema:
    """Exponential moving average with a public half-life in steps.

    A fixed decay of 0.999 would keep three quarters of the initial weights after 300 steps.
    """

    def __init__(self, model: nn.Module, *, half_life: float) -> None:
        self.decay = 0.5 ** (1 / half_life)
        self.average = {n: p.detach().clone() for n, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, p in model.named_parameters():
            self.average[name].lerp_(p, 1 - self.decay)


@dataclass
class TrainingState:
    """The state to resume a run after a crash, without that of the noise generator."""

    step: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]


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
        _restore(resume, model, ema, adam, parameters)
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
            save(_state(last, model, ema, adam, parameters))
    return ema.average


def cosine_rate(first: float, step: int, steps: int) -> float:
    """Return the learning rate of a step: half a cosine from `first` to zero.

    Late steps are small, so that the final parameters retain less noise of single steps.
    """
    return first * (1 + math.cos(math.pi * step / steps)) / 2


def _state(
    step: int,
    model: nn.Module,
    ema: Ema,
    adam: torch.optim.Adam,
    parameters: Mapping[str, nn.Parameter],
) -> TrainingState:
    moments = {}
    for name, p in parameters.items():
        moments[f"first.{name}"] = adam.state[p]["exp_avg"]
        moments[f"second.{name}"] = adam.state[p]["exp_avg_sq"]
    weights = {n: p.detach() for n, p in model.named_parameters()}
    return TrainingState(step=step, model=weights, ema=ema.average, moments=moments)


def _restore(
    state: TrainingState,
    model: nn.Module,
    ema: Ema,
    adam: torch.optim.Adam,
    parameters: Mapping[str, nn.Parameter],
) -> None:
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(state.model[name])
            ema.average[name].copy_(state.ema[name])
            adam.state[p] = {
                "step": torch.tensor(float(state.step)),
                "exp_avg": state.moments[f"first.{name}"].clone(),
                "exp_avg_sq": state.moments[f"second.{name}"].clone(),
            }


# Gradients in a microbatch on a CPU: twice as many fall out of its cache, and take longer to clip.
MOST_AT_ONCE = 64
# A matrix product computes rows in groups, and those left over by another kernel: with an odd
# number of rows, the last row of a product differs in its last bits from the same row elsewhere.
_ROWS = 16


def microbatch_size(
    noise_draws: int,
    *,
    passes: int,
    batch: float,
    memory_bytes: float,
    parameters: int,
    on_gpu: bool,
) -> int:
    """Return the number of examples in a microbatch, whose gradients fit in memory at once.

    Their noise draws are a multiple of 16 rows, or it is a single example. Otherwise an example's
    gradient would depend on its place in the microbatch, and hence on who else was sampled.

    A GPU takes a whole Poisson batch, with room for four standard deviations of its size, because
    the last microbatch is padded.

    About three copies of each example's gradient (float32) exist at the same time.

    Args:
        noise_draws: Noise levels drawn for each example.
        passes: Network passes at once that are fastest on a CPU.
        batch: Expected size of a Poisson batch.
        memory_bytes: Memory for gradients.
        parameters: Number of the network's parameters.
        on_gpu: Whether only memory limits the number.
    """
    by_memory = int(memory_bytes / (3 * 4 * parameters))
    whole = math.ceil(batch + 4 * math.sqrt(batch))
    by_speed = whole if on_gpu else min(MOST_AT_ONCE, math.ceil(passes / noise_draws))
    group = _ROWS // math.gcd(_ROWS, noise_draws)
    return max(1, min(math.ceil(by_speed / group), by_memory // group) * group)
