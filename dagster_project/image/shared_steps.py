"""DP-SGD with the gradients of one step computed by several workers.

The process that trains draws the step's Poisson sample once and divides it among the workers at
the borders of microbatches, so that everybody sampled is on exactly one worker. A worker gets the
weights, its people's indices and the step's secret key; it returns the sum of its clipped gradients
as integers of the grid. The sum over workers is therefore the same to the last bit, however many
there are. A person's diffusion draws follow the key and the person's own content
(`microbatches.own_draws`), so no worker has random numbers of its own. Noise is added once, to
the whole, by the process that the ledger has authorised.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from dagster_project.compute.workers import Workers, kept
from dagster_project.image.layers import Engine
from dagster_project.image.private_training import ClippedSums, Parameters, clipped_sums


class Microbatches(Protocol):
    """Function from the indices of people and the step's key to microbatches of tensors.

    Without a key it draws a fresh one.
    """

    def __call__(
        self, chosen: np.ndarray, *, key: bytes | None = None
    ) -> Iterator[Mapping[str, torch.Tensor]]: ...


Prepared = tuple[nn.Module, Engine, Microbatches]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What stays the same in all steps of a run; picklable.

    Attributes:
        prepare: Makes network, engine and microbatches, from files that all workers can read.
        mechanism: The plan's parameters.
        microbatch: People in a microbatch.
        autocast: Makes the mixed-precision context of the run.
        name: Fresh for each run; a worker prepares once for each name.
    """

    prepare: Callable[[], Prepared]
    mechanism: Parameters
    microbatch: int
    autocast: Callable[[], torch.autocast]
    name: str = field(default_factory=lambda: os.urandom(16).hex())

    def prepared(self) -> Prepared:
        """Return the worker's own network, engine and microbatches."""
        return kept(self.name, self.prepare)


@dataclass(frozen=True)
class StepSums:
    """The sums of one step's clipped gradients over the people of one shard.

    Attributes:
        job: The run.
        weights: The network's trained parameters at this step, float32.
        key: The step's secret key.
    """

    job: Job
    weights: Mapping[str, np.ndarray]
    key: bytes

    def __call__(self, chosen: np.ndarray) -> ClippedSums:
        """Return the sums over the people with the indices `chosen`, each once."""
        model, engine, microbatches = self.job.prepared()
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.weights.items():
                parameters[name].copy_(torch.from_numpy(np.array(value)))
        # Kernels chosen by timing, or that add in any order, do not reproduce their last bits.
        flags = torch.backends.cudnn.flags(benchmark=False, deterministic=True)
        with flags, self.job.autocast():
            return clipped_sums(
                parameters,
                microbatches(chosen, key=self.key),
                engine,
                mechanism=self.job.mechanism,
            )


def shared_step(
    job: Job, model: nn.Module, workers: Workers
) -> Callable[[np.ndarray], Iterator[ClippedSums]]:
    """Return a function that maps the indices of a Poisson batch to its workers' sums.

    It takes the place of `train_private`'s `make_microbatches`.
    """

    def sums(chosen: np.ndarray) -> Iterator[ClippedSums]:
        weights = {n: p.detach().cpu().numpy() for n, p in model.named_parameters()}
        function = StepSums(job, weights, os.urandom(32))
        return workers.map_shards(function, divide(chosen, job.microbatch, workers.count))

    return sums


def divide(chosen: np.ndarray, microbatch: int, workers: int) -> list[np.ndarray]:
    """Divide a Poisson batch into at most `workers` parts of whole microbatches.

    Only the last part ends with a microbatch that is not full. Nobody is in no part or in two.
    """
    starts = np.arange(0, len(chosen), microbatch)
    return [
        chosen[some[0] : some[-1] + microbatch]
        for some in np.array_split(starts, workers)
        if len(some)
    ]
