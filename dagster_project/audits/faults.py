"""Planted faults for audits to find: parts of the mechanisms with one thing wrong in each.

Nothing outside the audits uses these. Faults of the ledger are in `lives` and `crowds`, where they
run in their own processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.layers import Engine
from dagster_project.image.mean_pairs import CellSums
from dagster_project.image.private_training import SecureDPOptimizer, private_step
from dagster_project.privacy.grid import UNITS, to_numbers
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.sampling import poisson_sample

Batches = Iterator[Mapping[str, torch.Tensor]]


class Silent(SecureGenerator):
    """No noise at all; not a fault but a means to see what noise would hide."""

    def rounded_gaussian(self, shape: Any, *, sigma: float) -> np.ndarray:
        return np.zeros(shape, dtype=np.int64)

    def discrete_gaussian(self, shape: Any, *, sigma: float) -> np.ndarray:
        return np.zeros(shape, dtype=np.int64)


class LessNoise(SecureGenerator):
    """Noise with a part of the requested scale."""

    part = 0.5

    def rounded_gaussian(self, shape: Any, *, sigma: float) -> np.ndarray:
        return super().rounded_gaussian(shape, sigma=sigma * self.part)

    def discrete_gaussian(self, shape: Any, *, sigma: float) -> np.ndarray:
        return super().discrete_gaussian(shape, sigma=sigma * self.part)


class QuarterNoise(LessNoise):
    """A quarter of the noise."""

    part = 0.25


class SlightlyLessNoise(LessNoise):
    """Noise divided by the square root of two."""

    part = 2**-0.5


class Seeded(SecureGenerator):
    """Noise from a constant seed, which two runs on the same data cancel."""

    def __init__(self) -> None:
        super().__init__()
        self._seeded = np.random.default_rng(7)

    def rounded_gaussian(self, shape: Any, *, sigma: float) -> np.ndarray:
        return np.rint(self._seeded.normal(0.0, sigma, shape)).astype(np.int64)

    discrete_gaussian = rounded_gaussian


class FloatNoise(SecureGenerator):
    """Noise in floating point: half the sum of four normal variables, scaled.

    Reference: Holohan and Braghin, "Secure random sampling in differential privacy", 2021.
    """

    def rounded_gaussian(self, shape: Any, *, sigma: float) -> np.ndarray:
        size = (4, *shape) if isinstance(shape, tuple) else (4, shape)
        return np.random.default_rng().standard_normal(size).sum(axis=0) * (sigma / 2)


class OffGridSums(CellSums):
    """Sums of features that are not on the grid, unlike the noise."""

    def run(
        self,
        images: np.ndarray,
        one_hot: np.ndarray,
        feature_map: FeatureMap,
        *,
        generator: SecureGenerator,
    ) -> np.ndarray:
        features = feature_map(torch.from_numpy(images).float() / 255).double().numpy()
        sums = one_hot.T.astype(np.float64) @ features
        if self.counted:
            sums = np.column_stack([sums, one_hot.sum(axis=0)])
        noise = generator.rounded_gaussian(sums.shape, sigma=self.noise_std * UNITS)
        return sums + to_numbers(noise)


class Unclipped(SecureDPOptimizer):
    """Optimizer that adds up gradients without clipping."""

    def clipped_sum(self, rows: torch.Tensor, present: torch.Tensor | None) -> torch.Tensor:
        return rows.sum(dim=0) * (UNITS / self.max_grad_norm)


def unguarded_step(
    optimizer: SecureDPOptimizer,
    named_parameters: Mapping[str, nn.Parameter],
    microbatches: Batches,
    engine: Engine,
) -> None:
    """Take a step that lets non-finite gradients through."""
    parameters = named_parameters.values()
    total = torch.zeros(sum(p.numel() for p in parameters))
    for batch in microbatches:
        rows = engine(batch)
        total = total + (optimizer.max_grad_norm / rows.norm(dim=1)).clamp(max=1.0) @ rows
    mean = total / optimizer.expected_batch_size
    for p, part in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)
    optimizer.original_optimizer.step()


def realised_count_step(
    optimizer: SecureDPOptimizer,
    named_parameters: Mapping[str, nn.Parameter],
    microbatches: Batches,
    engine: Engine,
) -> None:
    """Take a step that divides by the realised batch size instead of the public one."""
    batches = list(microbatches)
    public = optimizer.expected_batch_size
    optimizer.expected_batch_size = max(1, sum(len(next(iter(b.values()))) for b in batches))
    private_step(optimizer, named_parameters, iter(batches), engine)
    optimizer.expected_batch_size = public


def doubled_sample(n: int, *, sample_rate: float, generator: SecureGenerator) -> np.ndarray:
    """Sample people at twice the declared rate."""
    return poisson_sample(n, sample_rate=min(1.0, 2 * sample_rate), generator=generator)


class Shuffled:
    """Sampler of batches of a fixed size from a shuffled order."""

    def __init__(self) -> None:
        self._left = np.zeros(0, dtype=np.int64)

    def __call__(self, n: int, *, sample_rate: float, generator: SecureGenerator) -> np.ndarray:
        size = max(1, round(n * sample_rate))
        if len(self._left) < size:
            self._left = np.argsort(generator.uniform_bits(n))
        batch, self._left = self._left[:size], self._left[size:]
        return np.sort(batch)


@dataclass(frozen=True)
class Training:
    """Parts of DP-SGD: those of the product unless a fault is planted."""

    generator: Callable[[], SecureGenerator] = SecureGenerator
    optimizer: type[SecureDPOptimizer] = SecureDPOptimizer
    step: Callable[..., None] = private_step
    sample: Callable[..., np.ndarray] = poisson_sample

    def run(self, gradients: torch.Tensor, mechanism: DPSGD) -> np.ndarray:
        """Run DP-SGD on people with given gradients, by plain descent at learning rate 1.

        Args:
            gradients: (people, D), the constant gradient of each person.
            mechanism: Noise, clip norm, sample rate and steps.

        Returns:
            (D,) the sum over all steps of the noisy sums, as the released parameters show it.
        """
        secure = self.generator()
        w = nn.Parameter(torch.zeros(gradients.shape[1], dtype=gradients.dtype))
        optimizer = self.optimizer(torch.optim.SGD([w], lr=1.0), mechanism, secure)
        for _ in range(mechanism.steps):
            rows = self.sample(len(gradients), sample_rate=mechanism.sample_rate, generator=secure)
            batch = {"gradient": gradients[torch.from_numpy(rows)]}
            self.step(optimizer, {"w": w}, iter([batch]), lambda b, out=None: b["gradient"])
        return -w.detach().double().numpy() * mechanism.expected_batch_size


def dp_sgd(**changes: Any) -> DPSGD:
    """Return DP-SGD with one step over everybody and clip norm 1, modified by `changes`."""
    values = {
        "noise_multiplier": 1.0,
        "max_grad_norm": 1.0,
        "sample_rate": 1.0,
        "expected_batch_size": 800.0,  # not the number of people in any audit
        "steps": 1,
        "replay_steps": 0,
    }
    return DPSGD(**values | changes)


TRAINING_FAULTS: dict[str, Callable[[], Training]] = {
    "seed reuse": lambda: Training(generator=Seeded),
    "realised-count mean": lambda: Training(step=realised_count_step),
    "lost clip": lambda: Training(optimizer=Unclipped),
    "half noise": lambda: Training(generator=LessNoise),
    "shuffle": lambda: Training(sample=Shuffled()),
    "NaN": lambda: Training(step=unguarded_step),
    "doubled q": lambda: Training(sample=doubled_sample),
}
