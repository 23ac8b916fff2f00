"""Small public feature maps, schemas of cells and noise that is off."""

from __future__ import annotations

from typing import Any

import numpy as np

from dagster_project.pairs.embeddings import FeatureMap
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
