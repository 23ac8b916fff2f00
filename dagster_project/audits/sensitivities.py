"""Audit of sensitivities: how far can one person move the values that noise is added to?

Each mechanism runs unchanged, but without noise, on random worst-case data sets that differ by one
person; the distance of the two outputs, in units of the charged sensitivity, must never exceed 1.
`randomness` audits noise and sampling.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from dagster_project.audits.faults import Silent, Training, dp_sgd
from dagster_project.audits.finding import Finding
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.marginals import attribute_pairs, count
from dagster_project.table.measurements import TableMeasurement, selection_scores

# Single precision changes a norm of a thousand summands by a smaller fraction than this.
ROUNDING = 1e-4
MAP = FeatureMap(
    channels=1,
    height=4,
    width=4,
    scales=(0.5, 1.0),
    frequencies=8,
    pixel_share=0.3,
    pixel_clip=0.5,
    seed=0,
)
PUBLIC_PEOPLE = 40.0


def training_sensitivity(training: Training, *, tries: int, seed: int = 0) -> float:
    """Return how far one person moves a DP-SGD step's sum of gradients, over the clip norm.

    Gradients have random lengths from 1e-6 to 1e9 clip norms, are copies and opposites of one
    another, and have non-finite entries. The result is infinite if the step's result is not finite.
    """
    rng, worst = np.random.default_rng(seed), 0.0
    silent = replace(training, generator=Silent)
    for number in range(tries):
        people, clip = int(rng.integers(0, 12)), float(10 ** rng.uniform(-2, 2))
        rows = rng.standard_normal((people + 1, 16)) * 10 ** rng.uniform(-6, 9, (people + 1, 1))
        if people and number % 3 == 0:
            rows[-1] = -rows[0] * 10 ** rng.uniform(-3, 3)
        if number % 4 == 1:
            rows[-1, 0] = (math.nan, math.inf, -math.inf)[number % 3]
        gradients = torch.from_numpy(rows * clip)
        with_person, without = (
            silent.run(part, dp_sgd(max_grad_norm=clip, expected_batch_size=PUBLIC_PEOPLE))
            for part in (gradients, gradients[:-1])
        )
        move = float(np.linalg.norm(with_person - without)) / clip
        worst = max(worst, move) if math.isfinite(move) else math.inf
    return worst


def pairs_sensitivity(kind: type[CellSums] = CellSums, *, tries: int, seed: int = 0) -> float:
    """Return how far one person moves the mean pairs' sums, over sqrt(attributes)."""
    rng, worst = np.random.default_rng(seed), 0.0
    for number in range(tries):
        d, people = int(rng.integers(1, 5)), int(rng.integers(0, 12))
        sizes = rng.integers(2, 5, d)
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        one_hot = np.zeros((people + 1, int(sizes.sum())), dtype=np.float32)
        for row in one_hot:
            row[offsets + rng.integers(0, sizes)] = 1
        images = rng.integers(0, 256, (people + 1, 1, 8, 8), dtype=np.uint8)
        images[-1] = (0, 255, images[-1])[number % 3]
        mechanism = kind(noise_multiplier=1.0, sample_rate=1.0, attributes=d)
        both = [
            mechanism.run(images[:n], one_hot[:n], MAP, generator=Silent())
            for n in (people + 1, people)
        ]
        worst = max(worst, float(np.linalg.norm(both[0] - both[1])) / math.sqrt(d))
    return worst


class RealisedMeans(CellSums):
    """Planted fault that divides by each cell's real count; the noise fits the public one."""

    def run(
        self,
        images: np.ndarray,
        one_hot: np.ndarray,
        feature_map: FeatureMap,
        *,
        generator: SecureGenerator,
    ) -> np.ndarray:
        sums = super().run(images, one_hot, feature_map, generator=generator)
        return sums / np.maximum(one_hot.sum(axis=0), 1)[:, None] * PUBLIC_PEOPLE


def table_sensitivity(*, tries: int, seed: int = 0) -> tuple[float, float]:
    """Return how far one record moves a measured marginal (L2) and a selection's score."""
    rng, marginal, score = np.random.default_rng(seed), 0.0, 0.0
    mechanism = TableMeasurement(sigma=5.0, marginals=1)
    for _ in range(tries):
        d, people = int(rng.integers(2, 5)), int(rng.integers(0, 12))
        sizes = [int(size) for size in rng.integers(2, 5, d)]
        codes = np.stack([rng.integers(0, size, people + 1) for size in sizes], axis=1)
        pairs = attribute_pairs(d)
        both = [[count(part, sizes, pair) for pair in pairs] for part in (codes, codes[:-1])]
        expected = [rng.uniform(0, 5, item.shape) for item in both[0]]
        moved = np.subtract(*(selection_scores(item, expected, sigma=3.0) for item in both))
        score = max(score, float(np.abs(moved).max()))
        for with_record, without in zip(*both, strict=True):
            noisy = [
                mechanism.run(item, names=("a", "b"), generator=Silent()).values
                for item in (with_record, without)
            ]
            marginal = max(marginal, float(np.linalg.norm(noisy[0] - noisy[1])))
    return marginal, score


def audit_sensitivities(*, tries: int) -> list[Finding]:
    """Audit the four mechanisms, each on `tries` pairs of neighbouring data sets."""
    marginal, score = table_sensitivity(tries=tries)
    measured = {
        "DP-SGD step": training_sensitivity(Training(), tries=tries),
        "mean pairs": pairs_sensitivity(tries=tries),
        "table measurement": marginal,
        "table selection score": score,
    }
    return [
        Finding(
            name=f"sensitivity of {name}",
            measured=f"{value:.6f} of what is charged",
            expected="at most 1",
            holds=value <= 1 + ROUNDING,
            size=f"{tries} neighbours",
        )
        for name, value in measured.items()
    ]
