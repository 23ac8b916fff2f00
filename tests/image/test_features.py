"""Feature extractors: shapes, local weights, no network."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from dagster_project.data.progress import silent
from dagster_project.image.features import make_extractor

GREY = np.random.default_rng(0).integers(0, 256, size=(3, 1, 28, 28), dtype=np.uint8)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a feature extractor opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)


def test_pixels_are_block_means() -> None:
    features = make_extractor("pixels")(GREY, silent)
    blocks = GREY.reshape(3, 14, 2, 14, 2).mean(axis=(2, 4)) / 255
    assert np.allclose(features, blocks.reshape(3, 196), atol=1e-6)
    assert make_extractor("pixels")(np.repeat(GREY[:, :, :8, :8], 3, 1), silent).shape == (3, 192)


def test_lite0_sees_grey_as_three_equal_channels(capfd: pytest.CaptureFixture[str]) -> None:
    extractor = make_extractor("efficientnet-lite0")
    grey = extractor(GREY, silent)
    assert grey.shape == (3, 1280)
    assert grey.dtype == np.float32
    assert np.allclose(grey, extractor(np.repeat(GREY, 3, axis=1), silent), atol=1e-4)
    assert np.abs(grey[0] - grey[1]).max() > 0.1
    assert extractor.distance == "FD-Lite0"
    assert capfd.readouterr().out == ""


def test_progress_ends_at_one() -> None:
    fractions: list[float] = []
    many = np.repeat(GREY, 30, axis=0)
    make_extractor("pixels")(many, lambda fraction, _: fractions.append(fraction))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


class _Inception(torch.nn.Module):
    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        mean = x.float().mean(dim=[2, 3])
        return mean if return_features else mean[:, :1]


def test_inception_comes_from_a_local_file(tmp_path: Path) -> None:
    path = tmp_path / "inception.pt"
    torch.jit.script(_Inception()).save(str(path))
    extractor = make_extractor("inception-v3", path)
    features = extractor(GREY, silent)
    assert features.shape == (3, 3)
    assert np.allclose(features, GREY.mean(axis=(2, 3)).repeat(3, axis=1), rtol=1e-5)
    assert extractor.distance == "FID"


def test_settings_that_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never downloaded"):
        make_extractor("inception-v3")
    with pytest.raises(ValueError, match="not found"):
        make_extractor("inception-v3", tmp_path / "absent.pt")
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no network")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        make_extractor("inception-v3", broken)
    with pytest.raises(ValueError, match="choose one of pixels, efficientnet-lite0"):
        make_extractor("resnet")
