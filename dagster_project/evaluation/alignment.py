"""Embedding-similarity gap: do images and records match in a space learned on real pairs?

This is the metric of DP-TabImage (arXiv 2609.00708): an image and a record encoder are trained
contrastively on real pairs; the gap is the mean cosine of matching embeddings minus that of
mismatched ones, divided by the gap of held-out real pairs. Predictors of single attributes are in
`predictors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.evaluation.intervals import (
    Interval,
    interval,
    resampling_weights,
    way_interval,
)
from dagster_project.evaluation.predictors import ImageEncoder

_EMBEDDING = 64
_EPOCHS = 6
_BATCH = 256
_MISMATCHES = 10
_TRAIN_PAIRS = 8000


@dataclass(frozen=True)
class SimilarityGap:
    """Gaps of cosine similarity.

    Attributes:
        real: Gap of held-out real pairs, the unit of the two below.
        synthetic: Gap of the synthetic pairs divided by `real`; 1 means as well matched as real
            pairs.
        shuffled: The same with the synthetic records shuffled; about 0.
        interval: Interval of `synthetic` over held-out people, whose gap is the unit; None if
            the encoders learned nothing.
        way: Interval of the way from `shuffled` to 1.
    """

    real: float
    synthetic: float
    shuffled: float
    interval: Interval | None
    way: Interval | None


@dataclass(frozen=True)
class Encoders:
    """An image and a record encoder trained on real pairs, and the gap of real pairs.

    Attributes:
        images: uint8 (B, C, H, W) -> (B, 64).
        records: One-hot records (B, width) -> (B, 64).
        real: Gap of held-out real pairs, then that of every sample of the people (1 + SAMPLES,).
    """

    images: nn.Module
    records: nn.Module
    real: np.ndarray

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights of both encoders by name."""
        parts = {"images": self.images, "records": self.records}
        return {f"{k}.{n}": t for k, part in parts.items() for n, t in part.state_dict().items()}

    @classmethod
    def of_state(
        cls,
        state: Mapping[str, torch.Tensor],
        shape: tuple[int, ...],
        schema: Schema,
        real: np.ndarray,
    ) -> Encoders:
        """Restore encoders from `state`, for images of shape (C, H, W)."""
        images, records = _new(shape, schema)
        for name, module in (("images.", images), ("records.", records)):
            module.load_state_dict(
                {n.removeprefix(name): t for n, t in state.items() if n.startswith(name)}
            )
        return cls(images=images, records=records, real=real)


def fit_encoders(
    train: Pairs, heldout: Pairs, schema: Schema, *, seed: int, progress: Progress
) -> Encoders:
    """Train the two encoders on at most 8,000 real pairs and compute the gap of held-out pairs.

    The loss is the symmetric cross-entropy over a batch of 256 (Radford et al. 2021) with a
    learned temperature.

    Args:
        train: Real pairs for the encoders.
        heldout: Real pairs not in `train`.
        schema: The schema of both.
        seed: Public randomness (initial weights, order, mismatches).
        progress: Callback called after every epoch.
    """
    rng = np.random.default_rng(seed)
    if len(train) > _TRAIN_PAIRS:
        train = train.take(np.sort(rng.choice(len(train), _TRAIN_PAIRS, replace=False)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        images, records = _new(train.images.shape[1:], schema)
        _fit(images, records, train, schema, progress)
    weights = resampling_weights(len(heldout), rng)
    a, b = _embed(images, records, heldout, schema)
    real = _gap(a, b, weights, rng=rng)
    return Encoders(images=images, records=records, real=real)


def similarity_gap(
    encoders: Encoders, synthetic: Pairs, schema: Schema, *, rng: np.random.Generator
) -> SimilarityGap:
    """Compute the gap of synthetic pairs with encoders trained on real pairs.

    Args:
        encoders: Encoders from `fit_encoders`.
        synthetic: Pairs to evaluate.
        schema: The schema of the pairs.
        rng: Public randomness (mismatches, shuffling).
    """
    a, b = _embed(encoders.images, encoders.records, synthetic, schema)
    # Encoders that learned nothing from the real pairs provide no unit for others.
    unit = np.where(encoders.real > 0, encoders.real, np.nan)
    once = np.ones((1, len(b)))
    matched = _gap(a, b, once, rng=rng) / unit
    shuffled = _gap(a, b[rng.permutation(len(b))], once, rng=rng) / unit
    return SimilarityGap(
        real=float(encoders.real[0]),
        synthetic=float(matched[0]),
        shuffled=float(shuffled[0]),
        interval=interval(matched),
        way=way_interval(shuffled, matched, np.ones_like(unit)),
    )


def _new(shape: tuple[int, ...], schema: Schema) -> tuple[nn.Module, nn.Module]:
    images = ImageEncoder(shape, _EMBEDDING)
    records = nn.Sequential(nn.Linear(schema.width, 128), nn.ReLU(), nn.Linear(128, _EMBEDDING))
    return images, records


def _fit(
    images: nn.Module, records: nn.Module, train: Pairs, schema: Schema, progress: Progress
) -> None:
    hot = torch.from_numpy(schema.one_hot(train.codes))
    log_temperature = nn.Parameter(torch.tensor(0.1).log())
    steps = _EPOCHS * -(-len(train) // _BATCH)
    parameters = [*images.parameters(), *records.parameters(), log_temperature]
    optimiser = torch.optim.Adam(parameters, lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for epoch in range(_EPOCHS):
        for rows in torch.randperm(len(train)).split(_BATCH):
            batch = torch.from_numpy(np.array(train.images[rows.numpy()]))
            a = F.normalize(images(batch), dim=1)
            b = F.normalize(records(hot[rows]), dim=1)
            logits = a @ b.T / log_temperature.exp()
            match = torch.arange(len(rows))
            loss = F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / _EPOCHS, "image and record encoders")


@torch.inference_mode()
def _embed(
    images: nn.Module, records: nn.Module, pairs: Pairs, schema: Schema
) -> tuple[np.ndarray, np.ndarray]:
    a = [
        images(torch.from_numpy(np.array(pairs.images[i : i + 1000])))
        for i in range(0, len(pairs), 1000)
    ]
    b = records(torch.from_numpy(schema.one_hot(pairs.codes)))
    return F.normalize(torch.cat(a), dim=1).numpy(), F.normalize(b, dim=1).numpy()


def _gap(
    a: np.ndarray, b: np.ndarray, weights: np.ndarray, *, rng: np.random.Generator
) -> np.ndarray:
    """Return the mean cosine of matching rows minus that with ten mismatched rows each (B,).

    Rows count as often as `weights` (B, N) says, and a mismatch as often as both its rows together.
    """
    # Shifts of 1 .. N-1 never give the row itself.
    shifts = rng.integers(1, len(b), size=(_MISMATCHES, len(b)))
    counts = weights.astype(np.float64)
    apart, times = np.zeros(len(counts)), np.zeros(len(counts))
    for other in (np.arange(len(b)) + shifts) % len(b):
        both = counts * counts[:, other]
        apart += both @ (a * b[other]).sum(axis=1)
        times += both.sum(axis=1)
    return counts @ (a * b).sum(axis=1) / counts.sum(axis=1) - apart / times
