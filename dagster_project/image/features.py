"""Features of images, for distances between sets of images.

There are three extractors: pooled pixels (a check that needs no network), EfficientNet-Lite0
(`efficientnet`) and Inception-v3 from a local file, the network of the usual FID. Weights are
never downloaded. Distances between features are in `evaluation.frechet`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from dagster_project.data.progress import Progress
from dagster_project.image.efficientnet import BATCH, efficientnet_lite
from dagster_project.image.threads import Threads


class Extractor(Protocol):
    """A map from images to feature vectors.

    Attributes:
        name: Value of the setting that selects it.
        distance: Name of the Fréchet distance on its features.
    """

    name: str
    distance: str

    def __call__(self, images: np.ndarray, progress: Progress) -> np.ndarray:
        """Return the features, float32 (N, F), of images, uint8 (N, C, H, W), C = 1 or 3."""
        ...


class _Batched(ABC):
    """An extractor that processes images in batches."""

    distance: str

    @abstractmethod
    def features(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features (B, F) of images uint8 (B, C, H, W)."""

    def __call__(self, images: np.ndarray, progress: Progress) -> np.ndarray:
        def features(start: int) -> np.ndarray:
            with torch.inference_mode():  # a thread has its own
                batch = torch.from_numpy(np.array(images[start : start + BATCH]))
                return self.features(batch).float().numpy()

        parts, starts = [], range(0, len(images), BATCH)
        with Threads(torch.device("cpu")) as threads:
            for start, part in zip(starts, threads.map(features, starts), strict=True):
                parts.append(part)
                progress(min(1.0, (start + BATCH) / len(images)), f"{self.distance} features")
        return np.concatenate(parts)


class PooledPixels(_Batched):
    """Pixels in [0, 1], averaged to at most 14x14 cells and flattened."""

    name = "pixels"
    distance = "FD-pixels"

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        size = [min(14, side) for side in batch.shape[2:]]
        return F.adaptive_avg_pool2d(batch.float() / 255, size).flatten(1)


class EfficientNetLite0(_Batched):
    """1,280 averaged features of EfficientNet-Lite0; the distance on them is called FD-Lite0.

    Images of 64 instead of 224 pixels suit two cores: about 600 images per second on one core.
    """

    name = "efficientnet-lite0"
    distance = "FD-Lite0"

    def __init__(self) -> None:
        self._network = efficientnet_lite("lite0")

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        return self._network.features(batch.float() / 255)


class InceptionV3(_Batched):
    """Inception-v3 features from a local TorchScript file, as in the usual FID.

    The file's module takes uint8 images (B, 3, H, W) of any size and returns (B, F); the
    published `inception-2015-12-05.pt` (2,048 features) is called with `return_features=True`.

    Raises:
        ValueError: If no file is given, it does not exist, or it is not TorchScript.
    """

    name = "inception-v3"
    distance = "FID"

    def __init__(self, weights: str | Path | None) -> None:
        if weights is None:
            raise ValueError(
                "The extractor inception-v3 needs the path of a local TorchScript file, such as "
                "inception-2015-12-05.pt; it is never downloaded."
            )
        path = Path(weights)
        if not path.is_file():
            raise ValueError(f"The Inception-v3 weights {path.name} were not found.")
        try:
            self._network = torch.jit.load(str(path), map_location="cpu").eval()
        except RuntimeError:
            raise ValueError(f"{path.name} is not a TorchScript file.") from None
        arguments = {a.name for a in self._network.forward.schema.arguments}
        self._options = {"return_features": True} if "return_features" in arguments else {}

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        return self._network(batch.expand(-1, 3, -1, -1).contiguous(), **self._options).flatten(1)


def make_extractor(name: str, weights: str | Path | None = None) -> Extractor:
    """Return the extractor called "pixels", "efficientnet-lite0" or "inception-v3".

    Args:
        name: Name of the extractor.
        weights: Local weights file, only for "inception-v3".

    Raises:
        ValueError: If the name is unknown, or the weights cannot be used.
    """
    if name == PooledPixels.name:
        return PooledPixels()
    if name == EfficientNetLite0.name:
        return EfficientNetLite0()
    if name == InceptionV3.name:
        return InceptionV3(weights)
    known = ", ".join((PooledPixels.name, EfficientNetLite0.name, InceptionV3.name))
    raise ValueError(f"Unknown feature extractor {name!r}; choose one of {known}.")
