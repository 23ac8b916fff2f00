"""DP-SGD from random weights on Fashion-MNIST for a given time, and what its pictures teach.

The benchmark is public: nobody is charged, and the noise draws of the diffusion are made for a
whole batch at once. Otherwise a step is that of a release (`image.private_training`). There is no
pretraining and no table, only the ten categories, as in DPImageBench (Gong et al. 2025), whose
classifiers are larger.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from dagster_project.data.progress import silent
from dagster_project.evaluation.predictors import ImageEncoder
from dagster_project.example.fashion import CATEGORIES, read_idx
from dagster_project.image import edm
from dagster_project.image.coarse import pool
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.edm import LEVELS
from dagster_project.image.gradients import fastest, per_example_engine
from dagster_project.image.microbatches import fixed_microbatches, microbatch_size
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.table_encoder import RecordLayout
from dagster_project.image.unet import UNet
from dagster_project.pipeline.image_model import COARSE_PASSES, PASSES, losses
from dagster_project.privacy.calibration import calibrate
from dagster_project.privacy.events import PoissonSampledGaussian
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.diffusion import NetworkSettings, SamplerSettings
from dagster_project.settings.two_scale import CoarseSettings

DRAWS, LEARNING_RATE, EPOCHS = 4, 2e-3, 10
_CHUNK = 2000  # pictures drawn at a time
_MEMORY = 6e9  # bytes of gradients held at once
_WARM = 3  # steps that are timed to choose the number of steps


@dataclass(frozen=True)
class Pictures:
    """Grey pictures uint8 (N, 1, 28, 28) and categories (N,), to train on and held out."""

    train: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def load(cls, source: Path | None, data: Path) -> Pictures:
        """Read all 60,000 and 10,000 from IDX files, or the example's from its tables."""
        if source is not None:
            parts = []
            for stem in ("train", "t10k"):
                parts += [
                    read_idx(source, f"{stem}-images-idx3-ubyte", axes=3)[:, None],
                    read_idx(source, f"{stem}-labels-idx1-ubyte", axes=1).astype(np.int64),
                ]
            return cls(*parts)
        names = {category: code for code, (category, _) in enumerate(CATEGORIES)}
        parts = []
        for name in ("train", "heldout"):
            table = pq.read_table(data / f"{name}.parquet", columns=["image", "category"])
            pictures = [
                np.asarray(Image.open(io.BytesIO(png))) for png in table["image"].to_pylist()
            ]
            parts += [
                np.stack(pictures)[:, None],
                np.array([names[category] for category in table["category"].to_pylist()]),
            ]
        return cls(*parts)

    def first(self, n: int) -> Pictures:
        return Pictures(self.train[:n], self.labels[:n], self.test[:n], self.test_labels[:n])


def run(
    pictures: Pictures,
    *,
    coarse: bool,
    epsilon: float,
    device: torch.device,
    seconds: float,
    batch: int = 4096,
    drawn: int = 20_000,
    wide: bool = True,
) -> dict[str, Any]:
    """Train for about so many seconds, draw pictures, and return accuracy and costs.

    Args:
        pictures: The data.
        coarse: Whether to train the patch mixer on 14 x 14 pixels, or the U-Net on all.
        epsilon: At delta = 1 / (n ln n), as in DPImageBench.
        device: Where to run.
        seconds: Time of the steps.
        batch: Expected batch.
        drawn: Pictures drawn to train a classifier on.
        wide: Whether to take networks four and two times as wide as the defaults.
    """
    n = len(pictures.train)
    delta, rate = 1 / (n * math.log(n)), min(1.0, batch / n)
    images, test = (_scaled(part, coarse, device) for part in (pictures.train, pictures.test))
    record = nn.functional.one_hot(torch.from_numpy(pictures.labels), 10).float().to(device)
    model = _network(coarse, wide).to(device)
    count = sum(p.numel() for p in model.parameters())
    size = microbatch_size(
        DRAWS, passes=COARSE_PASSES if coarse else PASSES, batch=rate * n, memory_bytes=_MEMORY,
        parameters=count, on_gpu=device.type == "cuda",
    )  # fmt: skip

    def microbatches(chosen: np.ndarray) -> Iterator[dict[str, torch.Tensor]]:
        for indices, present in fixed_microbatches(chosen, size):
            rows = torch.from_numpy(indices).to(device)
            level = torch.randn(size, DRAWS, device=device) * LEVELS.p_std + LEVELS.p_mean
            yield {
                "image": images[rows],
                "record": record[rows],
                "sigma": level.exp(),
                "noise": torch.randn(size, DRAWS, *images.shape[1:], device=device),
                "condition_mask": (torch.rand(size, DRAWS, device=device) > 0.1).float(),
                "present": present.to(device),
            }

    example = next(microbatches(np.zeros(1, dtype=np.int64)))
    example.pop("present")
    kind = fastest(model, losses, example)

    def train(mechanism: DPSGD) -> tuple[dict[str, torch.Tensor], float]:
        started = time.perf_counter()
        average = mechanism.run(
            model,
            per_example_engine(model, losses, kind),
            microbatches,
            n,
            learning_rate=LEARNING_RATE,
            ema_half_life=max(1.0, 0.15 * mechanism.steps),
            checkpoint_steps=mechanism.steps,
            authorise=lambda first, end: None,  # public data: nobody is charged
            save=lambda state: None,
            resume=None,
            generator=SecureGenerator(),
            progress=silent,
        )
        return average, time.perf_counter() - started

    initial = {name: part.clone() for name, part in model.state_dict().items()}
    train(_mechanism(1, 1.0, rate, n))  # warms up
    _, warm = train(_mechanism(_WARM, 1.0, rate, n))
    model.load_state_dict(initial)
    steps = max(1, int(seconds * _WARM / warm))

    def events(mu: float) -> list[PoissonSampledGaussian]:
        noise = rate * math.sqrt(steps) / mu
        return [PoissonSampledGaussian(noise_multiplier=noise, sample_rate=rate, count=steps)]

    mu = calibrate(events, target_epsilon=epsilon, target_delta=delta, discretization=1e-3)
    mechanism = _mechanism(steps, events(mu)[0].noise_multiplier, rate, n)
    average, spent = train(mechanism)
    model.load_state_dict(average, strict=False)
    labels = torch.arange(drawn) % 10
    started = time.perf_counter()
    synthetic = _draw(model.eval(), labels, images.shape[1:], device)
    drawing = time.perf_counter() - started
    truth = torch.from_numpy(pictures.test_labels)
    return {
        "network": "coarse" if coarse else "full size",
        "side": images.shape[-1],
        "parameters": count,
        "people": n,
        "epsilon": epsilon,
        "delta": delta,
        "batch": rate * n,
        "draws": DRAWS,
        "engine": kind,
        "steps": steps,
        "noise_multiplier": mechanism.noise_multiplier,
        "seconds_per_step": spent / steps,
        "people_per_second": rate * n * steps / spent,
        "pictures_drawn_per_second": drawn / drawing,
        "accuracy": _accuracy(synthetic, labels, test, truth, device),
        "accuracy_of_real": _accuracy(
            images[:drawn], torch.from_numpy(pictures.labels[:drawn]), test, truth, device
        ),
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if images.is_cuda else None,
    }


def _mechanism(steps: int, noise: float, rate: float, n: int) -> DPSGD:
    return DPSGD(
        noise_multiplier=noise, max_grad_norm=1.0, sample_rate=rate,
        expected_batch_size=rate * n, steps=steps, replay_steps=0,
    )  # fmt: skip


def _scaled(images: np.ndarray, coarse: bool, device: torch.device) -> torch.Tensor:
    """Return pictures in [-1, 1] on the device, pooled to half their sides for coarse ones."""
    scaled = torch.from_numpy(np.array(images)).float() / 127.5 - 1
    return (pool(scaled, (14, 14)) if coarse else scaled).to(device)


def _network(coarse: bool, wide: bool) -> nn.Module:
    torch.manual_seed(0)
    layout = RecordLayout(sizes=(10,), midpoints=(None,))
    if coarse:
        settings = CoarseSettings(width=128, token_width=128) if wide else CoarseSettings()
        return PatchMixer(layout.width, (1, 14, 14), settings)
    channels = (64, 128) if wide else (32, 64)
    return UNet(layout, NetworkSettings(channels=channels), image_channels=1)


def _draw(
    model: nn.Module, labels: torch.Tensor, shape: torch.Size, device: torch.device
) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    record = nn.functional.one_hot(labels, 10).float().to(device)
    parts = [
        edm.sample(
            model,
            some,
            (shape[0], shape[1], shape[2]),
            levels=LEVELS,
            settings=SamplerSettings(guidance=1.0),
            generator=random,
        )
        for some in record.split(_CHUNK)
    ]
    return torch.cat(parts)


def _accuracy(
    images: torch.Tensor,
    labels: torch.Tensor,
    test: torch.Tensor,
    test_labels: torch.Tensor,
    device: torch.device,
) -> float:
    """Return the accuracy on real pictures of a small network that was trained on others."""
    torch.manual_seed(0)
    images, test = ((part + 1) * 127.5 for part in (images, test))  # as the encoder expects
    network = ImageEncoder(tuple(images.shape[1:]), 10).to(device)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    labels = labels.to(device)
    for _ in range(EPOCHS):
        for some in torch.randperm(len(images)).to(device).split(128):
            loss = nn.functional.cross_entropy(network(images[some]), labels[some])
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
    with torch.no_grad():
        found = torch.cat([network(some).argmax(dim=1) for some in test.split(_CHUNK)])
    return float((found.cpu() == test_labels).double().mean())
