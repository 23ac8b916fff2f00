"""Toy releases for an attack on their files, and how an attacker reads the files.

The product's own code measures, completes and saves them; only the number of people is small.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dagster_project.audits import toys
from dagster_project.audits.faults import OffGridSums, dp_sgd
from dagster_project.image import released_means
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.image.private_training import SecureDPOptimizer, private_step
from dagster_project.image.released_means import MeanPairs
from dagster_project.image.training_state import TrainingState
from dagster_project.pipeline.image_model import load_state, save_state
from dagster_project.pipeline.semantic_query import Answer
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.public_data.query import LabelCounts

MULTIPLIER = 1000.0  # so large that the ideal mechanism reveals almost nothing
PEOPLE, LABELS, TOP, GRADIENTS = 24, 200, 40, 4000
# Numbers that noise was added to, and the largest float that each has passed through, which
# determines its last bits.
Read = tuple[np.ndarray, np.ndarray]


class RememberedMap(FeatureMap):
    """Public map that caches the features of each batch of images."""

    @cached_property
    def _seen(self) -> dict[bytes, torch.Tensor]:
        return {}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        key = images.numpy().tobytes()
        if key not in self._seen:
            with torch.no_grad():
                self._seen[key] = super().__call__(images)
        return self._seen[key]


MAP = RememberedMap(
    channels=1,
    height=6,
    width=6,
    scales=(0.5, 1.0),
    frequencies=300,
    pixel_share=0.3,
    pixel_clip=3.0,
    perceptual_share=0.5,
    seed=0,
)


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A toy release, and how an attacker reads the numbers that noise was added to.

    Attributes:
        name: What is released.
        noise: Standard deviation of the noise in each number.
        write: (folder, whether the target is in, generator) -> writes the files by the product's
            code.
        read: (folder) -> numbers that are linear in what was summed, NaN if there is none.
    """

    name: str
    noise: float
    write: Callable[[Path, bool, SecureGenerator], None]
    read: Callable[[Path], Read]

    def numbers(self, inside: bool, generator: SecureGenerator) -> Read:
        """Return what the attacker reads of one release."""
        with tempfile.TemporaryDirectory() as folder:
            self.write(Path(folder), inside, generator)
            return self.read(Path(folder))


def pairs_toy(
    sizes: Sequence[int], *, consistent: bool, counted: bool, kind: type[CellSums] = CellSums
) -> Toy:
    """Return mean pairs with the public network in their map, as the stage measures and saves them.

    No cell is dropped for having few people, so the attacker gets all numbers. They multiply
    the means by their divisor, which follows from the saved noise scale. If the totals were made
    consistent, they use differences from the target's cells, which consistency does not change.
    """
    rng = np.random.default_rng(1)
    images = np.stack([toys.draw(i % 3, i % 2, rng) for i in range(PEOPLE + 1)])[:, None]
    codes = [rng.integers(0, k, PEOPLE + 1) for k in sizes]
    one_hot = np.concatenate(
        [np.eye(k, dtype=np.float32)[code] for k, code in zip(sizes, codes, strict=True)], axis=1
    )
    mechanism = kind(
        noise_multiplier=MULTIPLIER, sample_rate=1.0, attributes=len(sizes), counted=counted
    )
    noise = mechanism.noise_std

    def write(folder: Path, inside: bool, generator: SecureGenerator) -> None:
        measured = mechanism.run(
            images[: PEOPLE + inside], one_hot[: PEOPLE + inside], MAP, generator=generator
        )
        released_means.complete(
            measured[:, : MAP.size],
            sizes=sizes,
            probabilities=one_hot[:PEOPLE].mean(axis=0),
            soft_records=released_means.uniform_records(sizes),
            people=float(PEOPLE),
            noise_scale=noise,
            feature_map=MAP,
            minimum_count=-math.inf,
            counts=measured[:, -1] if counted else None,
            consistent=consistent,
        ).save(folder)

    def read(folder: Path) -> Read:
        released = MeanPairs.load(folder)
        divisor = noise / released.noise_std
        blocks = np.split(released.means * divisor[:, None], np.cumsum(sizes)[:-1])
        counts = np.where(divisor > 1, divisor, np.nan) if counted else np.zeros(0)
        if consistent:
            own = [block[code[-1]] for block, code in zip(blocks, codes, strict=True)]
            values = [block - one for block, one in zip(blocks, own, strict=True)]
            largest = [
                np.maximum(abs(block), abs(one)) for block, one in zip(blocks, own, strict=True)
            ]
        else:
            values, largest = blocks, [abs(block) for block in blocks]
        return (
            np.concatenate([*(block.ravel() for block in values), counts]),
            np.concatenate([*(block.ravel() for block in largest), counts]),
        )

    form = f"{'consistent' if consistent else 'plain'}, {'noisy' if counted else 'paid'} counts"
    return Toy(name=f"mean pairs ({form})", noise=noise, write=write, read=read)


def query_toy() -> Toy:
    """Return the semantic query's answer as a toy release."""
    rng = np.random.default_rng(2)
    top = np.stack([rng.permutation(LABELS)[:TOP] for _ in range(PEOPLE + 1)]).astype(np.int16)
    one_hot = np.tile(np.array([1, 0, 1, 0], np.float32), (PEOPLE + 1, 1))
    mechanism = LabelCounts(noise_multiplier=MULTIPLIER, attributes=2, top_k=TOP)
    noise = mechanism.noise_std

    def write(folder: Path, inside: bool, generator: SecureGenerator) -> None:
        counts = mechanism.run(
            top[: PEOPLE + inside], one_hot[: PEOPLE + inside], labels=LABELS, generator=generator
        )
        Answer(counts, noise).save(folder)

    def read(folder: Path) -> Read:
        counts = Answer.load(folder).counts.astype(np.float64).ravel()
        return counts, abs(counts)

    return Toy(name="semantic query", noise=noise, write=write, read=read)


def training_toy(*, multiplier: float = MULTIPLIER) -> Toy:
    """Return a checkpoint after one step of DP-SGD.

    It has double precision, which keeps more bits than the product does. Adam's first moment is a
    constant times the noisy mean of the gradients.
    """
    generator = torch.Generator().manual_seed(3)
    gradients = torch.randn(PEOPLE + 1, GRADIENTS, generator=generator, dtype=torch.float64)
    declared = dp_sgd(noise_multiplier=multiplier)
    beta = 0.9

    def write(folder: Path, inside: bool, secure: SecureGenerator) -> None:
        w = nn.Parameter(torch.zeros(GRADIENTS, dtype=torch.float64))
        adam = torch.optim.Adam([w], betas=(beta, 0.999))
        batch = {"gradient": gradients[: PEOPLE + inside]}
        optimizer = SecureDPOptimizer(adam, declared, secure)
        private_step(optimizer, {"w": w}, iter([batch]), lambda b, out=None: b["gradient"])
        moments = {"first.w": adam.state[w]["exp_avg"]}
        save_state(folder, TrainingState(1, {"w": w.detach()}, {}, moments))

    def read(folder: Path) -> Read:
        state = load_state(folder)
        assert state is not None
        moment = state.moments["first.w"].numpy()
        sums = moment / (1 - beta) * declared.expected_batch_size
        return sums, abs(sums)

    return Toy(name="checkpoint of DP-SGD", noise=multiplier, write=write, read=read)


def pairs_forms(sizes: Sequence[int], *, consistent: bool, counted: bool) -> tuple[Toy, Toy]:
    """Return mean pairs unchanged, and with features that are not on the grid."""
    sound, off_grid = (
        pairs_toy(sizes, consistent=consistent, counted=counted, kind=kind)
        for kind in (CellSums, OffGridSums)
    )
    return sound, off_grid
