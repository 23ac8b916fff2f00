"""Predictors trained on pairs, which predict the records of held-out real images.

Trained on synthetic pairs, a predictor measures how well the alignment of images and records is
preserved. Trained on as many real pairs it gives the ceiling, and on synthetic images with shuffled
records the floor.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.evaluation.intervals import known_mean, resampling_weights, weighted_auc

_EPOCHS = 8
_BATCH = 128
_LEARNING_RATE = 5e-3


class ImageEncoder(nn.Module):
    """Two strided convolutions and a hidden layer of 128: (B, C, H, W) uint8 -> (B, outputs)."""

    def __init__(self, shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        channels, height, width = shape
        cells = (height // 4) * (width // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * cells, 128),
            nn.ReLU(),
            nn.Linear(128, outputs),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images.float() / 127.5 - 1)


@dataclass(frozen=True)
class AttributeScores:
    """Scores on held-out real pairs, by attribute name.

    Each is a list of 1 + SAMPLES numbers: the score, then that on every sample of the held-out
    people (`intervals`). Predictors scored with one seed and one set share the samples, so that
    their differences can be resampled too.

    Attributes:
        auc_draws: Macro one-vs-rest AUC over the cells that occur in the held-out pairs (bins of
            numeric attributes); NaN if only one cell occurs.
        mae_draws: Mean absolute error divided by the attribute's range, only for numeric
            attributes.
        accuracy_draws: Share of correct cells.
    """

    auc_draws: dict[str, list[float]]
    mae_draws: dict[str, list[float]]
    accuracy_draws: dict[str, list[float]]

    @property
    def auc(self) -> dict[str, float]:
        return {name: draws[0] for name, draws in self.auc_draws.items()}

    @property
    def mae(self) -> dict[str, float]:
        return {name: draws[0] for name, draws in self.mae_draws.items()}

    @property
    def accuracy(self) -> dict[str, float]:
        return {name: draws[0] for name, draws in self.accuracy_draws.items()}

    @property
    def auc_mean(self) -> float:
        """The mean AUC over the attributes that have one; NaN if none has."""
        return float(self.mean_draws("auc")[0])

    @property
    def mae_mean(self) -> float:
        """The mean error over the numeric attributes; NaN if there are none."""
        return float(self.mean_draws("mae")[0])

    def mean_draws(self, kind: str) -> np.ndarray:
        """Return the mean of "auc", "mae" or "accuracy" over the attributes that have one."""
        known = [draws for draws in getattr(self, f"{kind}_draws").values() if draws[0] == draws[0]]
        return known_mean(np.array(known)) if known else np.array([np.nan])


def average(scores: list[AttributeScores]) -> AttributeScores:
    """Return the mean of several predictors' scores, sample by sample."""

    def mean(kind: str) -> dict[str, list[float]]:
        tables = [getattr(score, kind) for score in scores]
        return {
            name: np.mean([table[name] for table in tables], axis=0).tolist() for name in tables[0]
        }

    return AttributeScores(**{field.name: mean(field.name) for field in fields(AttributeScores)})


def evaluate_alignment(
    train: Pairs, heldout: Pairs, schema: Schema, seed: int, progress: Progress
) -> AttributeScores:
    """Train one predictor with a head for each attribute on `train`, and score it on `heldout`.

    It is trained for eight epochs of Adam with batches of 128. The loss is the cross-entropy over
    the cells of every attribute, plus the squared error of the range-scaled number for numeric
    ones. Training on 4,000 grey 28x28 pairs takes about eight CPU-seconds.

    Args:
        train: Pairs to train on: synthetic, or real for the ceiling.
        heldout: Real pairs that neither the predictor nor any released model has seen.
        schema: The schema of both.
        seed: Public randomness (initial weights, order).
        progress: Callback called after every epoch.
    """
    # fork_rng leaves the caller's global generator unchanged.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ImageEncoder(train.images.shape[1:], schema.width + len(_numeric(schema)))
        _fit(network, train, schema, progress)
    weights = resampling_weights(len(heldout), np.random.default_rng([seed, 2]))
    return _score(network.eval(), heldout, schema, weights)


def shuffle_records(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Return the same images and records, matched at random."""
    order = rng.permutation(len(pairs))
    return Pairs(pairs.images, np.asarray(pairs.codes)[order], np.asarray(pairs.values)[order])


def _fit(network: nn.Module, train: Pairs, schema: Schema, progress: Progress) -> None:
    codes = torch.from_numpy(np.array(train.codes, dtype=np.int64))
    numbers = torch.from_numpy(_scaled(train, schema))
    steps = _EPOCHS * -(-len(train) // _BATCH)
    optimiser = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps)
    for epoch in range(_EPOCHS):
        for rows in torch.randperm(len(train)).split(_BATCH):
            output = network(torch.from_numpy(np.array(train.images[rows.numpy()])))
            *logits, predicted = output.split((*schema.sizes, len(_numeric(schema))), dim=1)
            loss = torch.stack(
                [F.cross_entropy(block, codes[rows, i]) for i, block in enumerate(logits)]
            ).sum()
            known = ~numbers[rows].isnan()
            if known.any():
                loss = loss + 10 * F.mse_loss(predicted[known], numbers[rows][known])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        progress((epoch + 1) / _EPOCHS, "predictor")


def _score(
    network: nn.Module, heldout: Pairs, schema: Schema, weights: np.ndarray
) -> AttributeScores:
    with torch.inference_mode():
        output = torch.cat(
            [
                network(torch.from_numpy(np.array(heldout.images[i : i + 1000])))
                for i in range(0, len(heldout), 1000)
            ]
        )
    *logits, predicted = output.split((*schema.sizes, len(_numeric(schema))), dim=1)
    codes = np.asarray(heldout.codes)
    auc, accuracy = {}, {}
    for i, (name, block) in enumerate(zip(schema.names, logits, strict=True)):
        auc[name] = _macro_auc(codes[:, i], block.softmax(dim=1).numpy(), weights).tolist()
        correct = block.argmax(dim=1).numpy() == codes[:, i]
        accuracy[name] = (weights @ correct.astype(np.float64) / len(codes)).tolist()
    errors = np.abs(predicted.clamp(0, 1).numpy() - _scaled(heldout, schema))
    mae = {
        schema.names[i]: _mean_of_known(errors[:, column], weights).tolist()
        for column, i in enumerate(_numeric(schema))
        if not np.isnan(errors[:, column]).all()
    }
    return AttributeScores(auc_draws=auc, mae_draws=mae, accuracy_draws=accuracy)


def _macro_auc(codes: np.ndarray, shares: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean one-vs-rest AUC over the cells that occur; NaN if fewer than two do."""
    areas = [weighted_auc(codes == j, shares[:, j], weights) for j in np.unique(codes)]
    return known_mean(np.array(areas))


def _mean_of_known(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    known = ~np.isnan(errors)
    with np.errstate(invalid="ignore"):
        return weights[:, known] @ errors[known].astype(np.float64) / weights[:, known].sum(axis=1)


def _numeric(schema: Schema) -> list[int]:
    return [i for i, a in enumerate(schema.attributes) if a.kind == "numeric"]


def _scaled(pairs: Pairs, schema: Schema) -> np.ndarray:
    """Scale numeric values to their public range, float32 (N, numeric attributes), NaN missing."""
    columns = _numeric(schema)
    low = np.array([schema.attributes[i].edges[0] for i in columns], dtype=np.float32)
    high = np.array([schema.attributes[i].edges[-1] for i in columns], dtype=np.float32)
    return (np.asarray(pairs.values)[:, columns] - low) / (high - low)
