"""Small public feature maps, schemas of cells and noise that is off."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.privacy.grid import UNITS


def feature_map(**changes: Any) -> FeatureMap:
    values: dict[str, Any] = {
        "channels": 1,
        "height": 4,
        "width": 4,
        "scales": (1 / 3, 1 / 6),
        "frequencies": 20,
        "pixel_share": 0.1,
        "pixel_clip": 2.0,
        "seed": 0,
    }
    return FeatureMap(**{**values, **changes})


def one_hot(codes: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """(N, d) codes -> (N, cells)."""
    return np.concatenate(
        [np.eye(size, dtype=np.float32)[codes[:, i]] for i, size in enumerate(sizes)], axis=1
    )


class Silent:
    """A generator whose noise is zero: what remains is exact."""

    def __init__(self) -> None:
        self.scales: list[float] = []

    def rounded_gaussian(self, shape: tuple[int, ...], *, sigma: float) -> np.ndarray:
        self.scales.append(sigma / UNITS)
        return np.zeros(shape, dtype=np.int64)

    def note(self, kind: str, parameter: float) -> None:
        pass


def sensitivity(attributes: int, *, counted: bool = False) -> float:
    """Of the mechanism of the mean pairs."""
    return _mechanism(attributes, 1.0, counted).sensitivity()


def noisy_sums(
    images: np.ndarray,
    member: np.ndarray,
    public: FeatureMap,
    *,
    attributes: int,
    noise_multiplier: float,
    generator: Any,
    counted: bool = False,
) -> np.ndarray:
    """One run of the mechanism of the mean pairs over everybody."""
    mechanism = _mechanism(attributes, noise_multiplier, counted)
    return mechanism.run(images, member, public, generator=generator)


def _mechanism(attributes: int, noise_multiplier: float, counted: bool) -> CellSums:
    return CellSums(
        noise_multiplier=noise_multiplier, sample_rate=1.0, attributes=attributes, counted=counted
    )
