"""Pretraining of the diffusion model: it learns, and from released things alone."""

import ast
import inspect
from pathlib import Path

import pytest
import torch

from dagster_project.image import edm
from dagster_project.image import pretraining as module
from dagster_project.image.pretraining import ByNoiseLevel, pretrain
from dagster_project.settings.diffusion import PretrainingSettings
from tests.image.toys import LEVELS, network, records


def halves(record):
    """Bright on the left or on the right, by the first attribute's first cell."""
    images = torch.full((len(record), 1, 8, 8), -0.8)
    left = record[:, 0] == 1
    images[left, :, :, :4] = 0.8
    images[~left, :, :, 4:] = 0.8
    return images


def run(model, *, seed=0, mean_pairs=4, steps=120):
    record = records(200, seed=4)
    told = []
    settings = PretrainingSettings(
        steps=steps, batch=16, learning_rate=3e-3, mean_pairs=mean_pairs, procedural_sigma=0.0
    )
    pretrain(
        model,
        halves(record),
        record,
        settings=settings,
        shift=0,
        seed=seed,
        levels=LEVELS,
        device=torch.device("cpu"),
        progress=lambda fraction, text: told.append(fraction),
        by_noise_level=ByNoiseLevel(
            mean_images=halves(record[:5]),
            soft_records=record[:5],
            procedural=halves(record[:5]),
            settings=settings,
        ),
    )
    return told


def loss(model, record, images):
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        return edm.loss(
            model, images, LEVELS.draw((len(record),), random),
            torch.randn(images.shape, generator=random), record,
            torch.ones(len(record)), sigma_data=LEVELS.sigma_data,
        ).item()  # fmt: skip


def test_the_loss_falls_and_the_record_is_learned():
    model = network()
    fresh = records(100, seed=5)
    before = loss(model, fresh, halves(fresh))
    told = run(model)
    after = loss(model, fresh, halves(fresh))
    assert after < 0.7 * before
    mirrored = halves(fresh).flip(-1)  # pictures that belong to the other record
    assert after < 0.8 * loss(model, fresh, mirrored)
    assert told[-1] == 1.0 and told == sorted(told)


def test_one_seed_gives_one_model():
    def weights(**changes):
        model = network()
        run(model, steps=3, **changes)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(), weights())
    assert not torch.equal(weights(), weights(seed=1))
    assert not torch.equal(weights(), weights(mean_pairs=0))


def test_mean_pairs_teach_high_noise_levels_alone(monkeypatch):
    seen = []

    def spy(model, clean, sigma, *rest, **options):
        seen.append((len(clean), sigma.detach().clone()))
        return sum(p.sum() for p in model.parameters()) * 0.0

    monkeypatch.setattr(module.edm, "loss", spy)
    run(network(), steps=20)
    for size, sigma in seen:
        assert size == 20
        assert (sigma[16:] >= 3.0).all() and (sigma[16:] <= 30.0).all()
    assert torch.cat([sigma[:16] for _, sigma in seen]).min() < 0.3


def test_without_mean_pairs_it_runs():
    model, record = network(), records(20)
    settings = PretrainingSettings(steps=2, batch=4)
    pretrain(
        model, halves(record), record, settings=settings, shift=0, seed=0, levels=LEVELS,
        device=torch.device("cpu"), progress=lambda f, t: None,
        by_noise_level=ByNoiseLevel(
            mean_images=torch.zeros(0, 1, 8, 8), soft_records=torch.zeros(0, 9),
            procedural=torch.zeros(1, 1, 8, 8), settings=settings,
        ),
    )  # fmt: skip


def test_open_steps_are_refused():
    model, record = network(), records(20)
    with pytest.raises(ValueError, match="steps of pretraining are not fixed"):
        pretrain(
            model, halves(record), record, settings=PretrainingSettings(), shift=0, seed=0,
            levels=LEVELS, device=torch.device("cpu"), progress=lambda f, t: None,
        )  # fmt: skip


def test_mean_pairs_alone_are_moved_about_and_teach_all_noise_levels(monkeypatch):
    seen = []

    def spy(model, clean, sigma, noise, record, *rest, **options):
        seen.append((clean.clone(), sigma.clone(), record.clone()))
        return sum(p.sum() for p in model.parameters()) * 0.0

    monkeypatch.setattr(module.edm, "loss", spy)
    image = torch.full((1, 1, 8, 8), -1.0)
    image[..., 4, 4] = 1
    soft = torch.full((1, 9), 1 / 3)
    pretrain(
        network(), image, soft, settings=PretrainingSettings(steps=10, batch=16), shift=1, seed=0,
        levels=LEVELS, device=torch.device("cpu"), progress=lambda f, t: None,
    )  # fmt: skip
    clean, sigma, record = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert len(clean) == 160 and torch.allclose(record, torch.tensor(1 / 3))
    places = {tuple(c[0].argmax().unsqueeze(0).tolist()) for c in clean}
    assert len(places) > 3 and (clean.flatten(1).sum(1) == image.sum()).all()
    assert sigma.min() < 0.1 and sigma.max() > 1


@pytest.mark.parametrize(
    "name",
    ["image/pretraining.py", "image/generator.py", "image/matching.py", "image/augmentation.py"],
)
def test_it_can_read_nothing_private(name):
    """No import through which a record, a file or a mechanism could be reached."""
    tree = ast.parse((Path(inspect.getfile(module)).parents[1] / name).read_text())
    imported = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    imported |= {
        n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names
    }
    allowed = {
        "__future__", "collections.abc", "dataclasses", "numpy", "torch", "torch.autograd.function",
        "torch.nn", "typing",
    }  # fmt: skip
    assert imported - allowed <= {
        "dagster_project.image",
        "dagster_project.image.embeddings",
        "dagster_project.image.augmentation",
        "dagster_project.image.matching",
        "dagster_project.settings.diffusion",
        "dagster_project.settings.sections",
    }
    called = {
        n.func.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    }
    assert not called & {"open", "exec", "eval", "cell_sums", "noisy_sums"}
