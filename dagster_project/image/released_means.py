"""Released means of mean table-image pairs: what follows from the noisy sums. Post-processing.

The mechanism that releases the sums is in `mean_pairs`; no record is read here.

Each mean image has a soft record: one-hot in its own attribute, and the table model's conditional
distribution in every other (DP-TabImage, Chen et al. 2026, section 4).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dagster_project.image.embeddings import FeatureMap


def make_consistent(sums: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Project the sums by least squares so that all attributes have the same total.

    Each person is in one cell of each attribute, so the true sums over an attribute's cells have
    the same total T for all attributes. With equal noise in all cells, T = sum_i (T_i / k_i) /
    sum_i (1 / k_i), and (T - T_i) / k_i is added to every cell of attribute i.
    """
    blocks = np.split(sums, np.cumsum(sizes)[:-1])
    weights = np.array([1 / size for size in sizes])
    total = sum(w * block.sum(0) for w, block in zip(weights, blocks, strict=True)) / weights.sum()
    return np.concatenate([b + (total - b.sum(0)) / len(b) for b in blocks])


@dataclass(frozen=True)
class MeanPairs:
    """Released means with their soft records; differentially private.

    Attributes:
        means: (cells, size) mean features; zero in the rows of cells left out.
        noise_std: (cells,) standard deviation of the privacy noise in each mean.
        shares: (cells,) share of people in each cell according to the table model; 0 if left out.
        soft_records: (cells, cells) probability blocks.
        feature_map: The public map.
    """

    means: np.ndarray
    noise_std: np.ndarray
    shares: np.ndarray
    soft_records: np.ndarray
    feature_map: FeatureMap

    @classmethod
    def none(cls, cells: int, feature_map: FeatureMap) -> MeanPairs:
        """Return an empty set, for a plan without a mechanism for mean pairs."""
        return cls(
            means=np.zeros((0, feature_map.size)),
            noise_std=np.zeros(0),
            shares=np.zeros(0),
            soft_records=np.zeros((0, cells)),
            feature_map=feature_map,
        )

    @property
    def noise(self) -> float:
        """The standard deviation of the privacy noise in a mean over everybody.

        That of a cell is this value divided by the cell's share.
        """
        return float((self.noise_std * self.shares).max(initial=0.0))

    def images(self, *, denoised: bool = True) -> np.ndarray:
        """Return the mean images (cells, C, h, w) in [0, 1].

        Args:
            denoised: Whether to shrink them using the known noise level.
        """
        fm = self.feature_map
        pooled, _ = fm.parts(self.means)
        pixels = pooled[:, fm.fourier_size :] / math.sqrt(fm.pixel_share)
        if denoised:
            noise = self.noise_std / math.sqrt((1 - fm.perceptual_share) * fm.pixel_share)
            pixels = shrink(pixels, noise, self.shares)
        flat = fm.grey + fm.pixel_clip * pixels
        return flat.reshape(-1, fm.channels, fm.height, fm.width).clip(0, 1)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / "mean_pairs.npz",
            means=self.means,
            noise_std=self.noise_std,
            shares=self.shares,
            soft_records=self.soft_records,
        )
        (folder / "feature_map.json").write_text(json.dumps(asdict(self.feature_map), indent=1))

    @classmethod
    def load(cls, folder: Path) -> MeanPairs:
        from dagster_project.image.embeddings import FeatureMap

        settings = json.loads((folder / "feature_map.json").read_text())
        with np.load(folder / "mean_pairs.npz", allow_pickle=False) as arrays:
            return cls(
                **{name: arrays[name] for name in arrays.files},
                feature_map=FeatureMap(**settings | {"scales": tuple(settings["scales"])}),
            )


def complete(
    sums: np.ndarray,
    *,
    sizes: Sequence[int],
    probabilities: np.ndarray,
    soft_records: np.ndarray,
    people: float,
    noise_scale: float,
    feature_map: FeatureMap,
    minimum_count: float,
    maximum_noise: float = math.inf,
    counts: np.ndarray | None = None,
    consistent: bool = True,
) -> MeanPairs:
    """Compute means and soft records from noisy sums and the table model. Post-processing.

    Args:
        sums: (cells, size) noisy sums.
        sizes: Number of cells of each attribute.
        probabilities: (cells,) one-way probabilities of the table model.
        soft_records: (cells, cells) conditional distributions of the table model.
        people: Expected number of people in the sums (the model's total times the sample rate).
        noise_scale: Standard deviation of the noise in each sum.
        feature_map: The public map.
        minimum_count: Cells with fewer people are left out.
        maximum_noise: Cells are left out if the noise in their mean has a larger expected L2 norm;
            the mean itself has a norm of at most one.
        counts: (cells,) noisy counts to use instead of the table model's.
        consistent: Whether to apply `make_consistent` first.
    """
    if counts is None:
        counts = np.asarray(probabilities) * people
    else:
        probabilities = counts.clip(min=0) / max(people, 1.0)
    divisor = np.maximum(counts, 1.0)  # cells left out may have none, or a negative noisy count
    noise_std = noise_scale / divisor
    kept = (counts >= minimum_count) & (noise_std * math.sqrt(feature_map.size) <= maximum_noise)
    means = (make_consistent(sums, sizes) if consistent else sums) / divisor[:, None]
    return MeanPairs(
        means=np.where(kept[:, None], means, 0.0),
        noise_std=noise_std,
        shares=np.where(kept, probabilities, 0.0),
        soft_records=np.asarray(soft_records),
        feature_map=feature_map,
    )


def uniform_records(sizes: Sequence[int]) -> np.ndarray:
    """Return the uninformative record, uniform in every attribute, for each cell (cells, cells)."""
    record = np.repeat(1 / np.asarray(sizes, dtype=np.float64), sizes)
    return np.tile(record, (len(record), 1))


def shrink(means: np.ndarray, noise_std: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Apply Wiener shrinkage to each coordinate, towards the mean over all cells.

    The between-cell signal power P of a coordinate is its weighted variance minus the known noise;
    the deviation of cell j is multiplied by P / (P + noise_j^2).
    """
    weight = (shares / max(shares.sum(), 1e-12))[:, None]
    variance = (noise_std**2)[:, None]
    centre = (weight * means).sum(0)
    power = np.maximum((weight * ((means - centre) ** 2 - variance)).sum(0), 0.0)
    return centre + (means - centre) * power / (power + variance + 1e-12)
