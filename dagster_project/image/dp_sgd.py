"""DP-SGD: Poisson batches, per-example clipping, noise from the operating system's generator.

Opacus' optimiser clips, accumulates and scales; the subclass here overrides the noise alone, so
that it comes from `SecureGenerator` (Abadi et al. 2016, algorithm 1). What a run may cost is
decided before it, in the plan; the ledger is told of each range of steps before it runs.

Sensitivity. Under add/remove of one person, whose single pair enters a step's batch by its own
coin, the sum of clipped gradients changes by one term of L2 norm at most `max_grad_norm`: every
example's gradient is scaled to that norm (a gradient with a non-finite entry becomes zero first),
examples do not interact in the network (GroupNorm alone), and the divisor is the public
`expected_batch_size`, never the realised one. The step is therefore a Poisson-sampled Gaussian
mechanism of multiplier `noise_multiplier`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import nn

from dagster_project.image.gradients import Engine
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.sampling import poisson_sample


@dataclass(frozen=True, kw_only=True)
class DpSgdSettings:
    """What a private training run does; every field is fixed by the plan.

    Attributes:
        noise_multiplier: Noise standard deviation over `max_grad_norm`.
        max_grad_norm: L2 norm to which an example's gradient is clipped.
        sample_rate: Probability of a person's being in a step's batch.
        expected_batch_size: Public divisor, n_public times sample_rate.
        steps: Steps of the run.
        replay_steps: Further steps that may be drawn again after a crash, paid for beforehand.
    """

    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    expected_batch_size: float
    steps: int
    replay_steps: int

    def declared(self) -> dict[str, float | int | str]:
        """What the ledger compares with the plan."""
        return {**asdict(self), "sampler": "poisson", "divisor": "expected_batch_size"}


class SecureDPOptimizer(DPOptimizer):
    """Opacus' DPOptimizer with noise from a `SecureGenerator`, and non-finite gradients zeroed."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        settings: DpSgdSettings,
        secure_generator: SecureGenerator,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=settings.noise_multiplier,
            max_grad_norm=settings.max_grad_norm,
            expected_batch_size=settings.expected_batch_size,
            loss_reduction="mean",
        )
        self._secure_generator = secure_generator

    def add_noise(self) -> None:
        """Adds N(0, (noise_multiplier max_grad_norm)^2 I) to the sum of clipped gradients."""
        scale = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            # Added in float64: rounding the noisy sum is post-processing, rounding noise is not.
            noise = torch.from_numpy(self._secure_generator.gaussian(tuple(p.shape), scale=scale))
            p.grad = (p.summed_grad.cpu().double() + noise).to(p.device, p.dtype)


def private_step(
    optimizer: SecureDPOptimizer,
    named_parameters: Mapping[str, nn.Parameter],
    microbatches: Iterator[Mapping[str, torch.Tensor]],
    engine: Engine,
) -> None:
    """One step over all microbatches of one Poisson batch; an empty batch still gets its noise.

    Clips each example, sums over the microbatches, adds noise once, divides by the public
    expected batch size and moves the parameters; all in the parameters' precision, within
    autocast too.
    """
    for p in named_parameters.values():
        p.summed_grad = torch.zeros_like(p)
    for batch in microbatches:
        gradients = engine(batch)
        finite = _finite_rows(gradients)
        for name, p in named_parameters.items():
            # where, not a product: 0 times NaN is NaN.
            mask = finite.view(-1, *[1] * p.dim())
            gradient = gradients[name].to(p.dtype)
            p.grad_sample = torch.where(mask, gradient, torch.zeros_like(gradient))
        # Whatever the network ran in: a sum rounded to bfloat16 moves by more than one's clip norm.
        with torch.autocast(p.device.type, enabled=False):
            optimizer.clip_and_accumulate()
        for p in named_parameters.values():
            p.grad_sample = None
    optimizer.add_noise()
    for p in named_parameters.values():
        p.grad /= optimizer.expected_batch_size
        p.summed_grad = None
    optimizer.original_optimizer.step()
    optimizer.original_optimizer.zero_grad(set_to_none=True)


def _finite_rows(gradients: Mapping[str, torch.Tensor]) -> torch.Tensor:
    rows = [g.flatten(1).isfinite().all(dim=1) for g in gradients.values()]
    return torch.stack(rows).all(dim=0)


class Ema:
    """Exponential moving average with a public half-life in steps.

    A fixed decay of .999 would keep three quarters of the start after 300 steps.
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
    """All that a run needs to go on after a crash; never the state of a noise generator."""

    step: int
    model: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    moments: dict[str, torch.Tensor]


def train_private(
    model: nn.Module,
    engine: Engine,
    make_microbatches: Callable[[np.ndarray], Iterator[Mapping[str, torch.Tensor]]],
    people: int,
    *,
    settings: DpSgdSettings,
    learning_rate: float,
    ema_half_life: float,
    checkpoint_steps: int,
    authorise: Callable[[int, int], None],
    save: Callable[[TrainingState], None],
    resume: TrainingState | None,
    progress: Callable[[float, str], None],
) -> dict[str, torch.Tensor]:
    """Runs DP-SGD and returns the averaged parameters of the last step.

    Args:
        model: The network to train in place.
        engine: Per-example gradients of it.
        make_microbatches: From indices of one Poisson batch to microbatches of tensors.
        people: Number of private pairs, used for the coins alone.
        settings: The plan's parameters.
        learning_rate: Adam's first; it falls to zero by `cosine_rate`.
        ema_half_life: Half-life of the average, in steps.
        checkpoint_steps: Steps between checkpoints, and length of an authorised range.
        authorise: Called with (first, last + 1) before any step of that range runs; durable.
        save: Called with the state after each range.
        resume: State to go on from.
        progress: Fraction done and a text without private content.

    Returns:
        Averaged parameters by name.
    """
    secure = SecureGenerator()
    parameters = dict(model.named_parameters())
    adam = torch.optim.Adam(parameters.values(), lr=learning_rate)
    optimizer = SecureDPOptimizer(adam, settings, secure)
    ema = Ema(model, half_life=ema_half_life)
    start = 0
    if resume is not None:
        start = resume.step
        _restore(resume, model, ema, adam, parameters)
    for first in range(start, settings.steps, checkpoint_steps):
        last = min(first + checkpoint_steps, settings.steps)
        authorise(first, last)
        for step in range(first, last):
            chosen = poisson_sample(people, sample_rate=settings.sample_rate, generator=secure)
            for group in adam.param_groups:
                group["lr"] = cosine_rate(learning_rate, step, settings.steps)
            private_step(optimizer, parameters, make_microbatches(chosen), engine)
            ema.update(model)
            progress((step + 1) / settings.steps, f"DP-SGD step {step + 1} of {settings.steps}")
        save(_state(last, model, ema, adam, parameters))
    return ema.average


def cosine_rate(first: float, step: int, steps: int) -> float:
    """Learning rate of a step: half a cosine from `first` to zero. Late steps move little, so that
    the last parameters keep less of the noise of single steps."""
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


def microbatch_size(noise_draws: int, *, memory_bytes: float, parameters: int, on_gpu: bool) -> int:
    """Examples whose gradients are held at once, within the memory.

    On a CPU about 32 network passes at once are fastest (64 took half as long again). About three
    copies of each example's gradient (float32) live at the same time.
    """
    by_memory = int(memory_bytes / (3 * 4 * parameters))
    by_speed = by_memory if on_gpu else math.ceil(32 / noise_draws)
    return max(1, min(by_speed, by_memory))
