"""The two-scale model: sizes, networks whose examples do not interact, the fit of the detail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dagster_project.data.progress import silent
from dagster_project.image import edm
from dagster_project.image.coarse import coarse_size, pool
from dagster_project.image.detail import DetailNetwork, enlarge, fit_detail
from dagster_project.image.gradients import per_example_engine
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.perceptual import PerceptualMap
from dagster_project.image.two_scale import Experts, Finisher, TwoScale
from dagster_project.pipeline.image_model import losses
from dagster_project.settings.diffusion import SamplerSettings
from dagster_project.settings.two_scale import CoarseSettings, DetailSettings
from tests.image.feature_toys import feature_map

WIDTH, SHAPE = 5, (1, 6, 8)
COARSE = CoarseSettings(side=8, width=8, token_width=6, depth=2, finisher_channels=8)
DETAIL = DetailSettings(channels=8, depth=1, steps=30, batch=16, faithfulness=1.0)


def mixer(shape: tuple[int, int, int] = SHAPE) -> PatchMixer:
    torch.manual_seed(0)
    network = PatchMixer(WIDTH, shape, COARSE)
    with torch.no_grad():  # a new network's head is zero, which would hide every difference
        network.head.weight.normal_()
    return network


def arguments(count: int, shape: tuple[int, int, int] = SHAPE) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, *shape, generator=random),
        torch.randn(count, generator=random),
        torch.rand(count, WIDTH, generator=random),
        torch.ones(count),
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((28, 28), (14, 14)),  # two pixels to one
        ((32, 32), (16, 16)),
        ((40, 40), (16, 16)),  # no whole number of pixels
        ((64, 48), (16, 12)),
        ((10, 7), (10, 6)),  # already small: only cut to whole patches
        ((64, 2), (16, 2)),
    ],
)
def test_the_coarse_size_is_at_most_16_in_whole_patches(size, expected) -> None:
    assert coarse_size(*size, CoarseSettings()) == expected


@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 4)])
def test_a_mixer_keeps_the_shape_and_follows_record_and_noise_level(shape) -> None:
    network, (x, level, record, mask) = mixer(shape), arguments(3, shape)
    found = network(x, level, record, mask)
    assert found.shape == x.shape
    assert not torch.allclose(found, network(x, level, record.flip(1), mask))
    assert not torch.allclose(found, network(x, level + 1, record, mask))
    hidden = network(x, level, record, mask * 0)
    assert torch.equal(hidden, network(x, level, record.flip(1), mask * 0))


def test_every_place_of_a_mixer_sees_every_other() -> None:
    network, (x, *others) = mixer(), arguments(1)
    x.requires_grad_()
    network(x, *others)[0, 0, 0, 0].backward()
    assert (x.grad != 0).all()


def examples(people: int, draws: int, *, seed: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(people, *SHAPE, generator=random) * 2 - 1,
        "record": torch.rand(people, WIDTH, generator=random),
        "sigma": torch.rand(people, draws, generator=random) + 0.1,
        "noise": torch.randn(people, draws, *SHAPE, generator=random),
        "condition_mask": torch.ones(people, draws),
    }


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_the_gradients_of_a_mixer_are_those_of_each_example_alone(kind) -> None:
    network, batch = mixer(), examples(4, 3, seed=2)
    found = per_example_engine(network, losses, kind)(batch)
    alone = per_example_engine(network, losses, "loop")(batch)
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_a_persons_gradient_of_a_mixer_depends_on_nobody_else_to_the_last_bit(kind) -> None:
    """In a microbatch of one size, whoever else is in it and wherever the person stands."""
    engine = per_example_engine(mixer(), losses, kind)
    alone, seen = examples(1, 4, seed=0), set()
    for place in (0, 1, 15, 30, 31):
        crowd = examples(32, 4, seed=place + 1)
        for name, part in alone.items():
            crowd[name][place] = part[0]
        seen.add(engine(crowd)[place].numpy().tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("size", [(14, 14), (16, 11)])  # whole pixels averaged to one, or not
def test_a_pooled_image_depends_on_it_alone_to_the_last_bit(size) -> None:
    random = torch.Generator().manual_seed(3)
    images = torch.rand(9, 3, 28, 28, generator=random)
    rolled = pool(images.roll(4, 0), size).roll(-4, 0)
    assert torch.equal(pool(images, size), rolled)
    assert all(torch.equal(pool(image[None], size)[0], pooled)
               for image, pooled in zip(images, rolled, strict=True))  # fmt: skip


def test_an_expert_draws_on_its_side_of_the_handover() -> None:
    def coarse(x, *_):
        return x + 1

    def finisher(x, *_):
        return x - 1

    both = Experts(coarse, finisher, handover=0.4)
    zero = torch.zeros(2)
    for sigma, expected in ((0.41, 1), (0.39, -1)):
        level = torch.full((2,), math.log(sigma) / 4)
        assert torch.equal(both(zero, level, zero, zero), zero + expected)
    always = Experts(coarse, finisher, handover=0.0)
    assert torch.equal(always(zero, torch.full((2,), -5.0), zero, zero), zero + 1)


def test_a_two_scale_model_draws_the_same_images_from_the_same_seed() -> None:
    shape = (1, 12, 16)
    coarse, finisher = mixer(), Finisher(WIDTH, 1, COARSE)
    sampler = SamplerSettings(steps=3)
    record = torch.rand(4, WIDTH)

    def draw(detail: DetailNetwork | None, seed: int = 0) -> torch.Tensor:
        model = TwoScale(coarse, finisher, detail, shape=shape, settings=COARSE, sampler=sampler)
        return model.eval().draw(record, torch.Generator().manual_seed(seed))

    detail = DetailNetwork(WIDTH, shape, DETAIL)
    images = draw(detail)
    assert images.shape == (4, *shape) and images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, draw(detail)) and not torch.equal(images, draw(detail, 1))
    # A new detail network adds nothing to the enlarged coarse images, but for clipping.
    torch.testing.assert_close(images, draw(None), atol=0.021, rtol=0)


def test_the_detail_comes_nearer_to_the_means_and_stays_near_the_coarse_image() -> None:
    shape, random = (1, 16, 16), torch.Generator().manual_seed(3)
    coarse = torch.rand(64, 1, 4, 4, generator=random)
    records = torch.nn.functional.one_hot(torch.arange(64) % 2, 2).float()
    striped = enlarge(coarse, (16, 16)) * (0.4 + 0.6 * (torch.arange(16) % 2))
    public_map = feature_map(frequencies=2, perceptual_share=0.5)
    with torch.no_grad():
        wanted = public_map.perceptual_part(striped)
    means = np.zeros((2, public_map.size))
    means[:, -PerceptualMap.size :] = (records.T @ wanted / 32).numpy() * math.sqrt(0.5)

    def fitted(**changes: float) -> tuple[float, float]:
        """Distance of the mean features, and of the pooled images to the coarse ones."""
        network = fit_detail(
            coarse, records, means, np.array([0.5, 0.5]), public_map, shape, 0.0,
            DETAIL.model_copy(update=changes), silent, seed=0,
        )  # fmt: skip
        with torch.no_grad():
            images = network.draw(coarse, records, torch.Generator().manual_seed(4))
            apart = records.T @ (public_map.perceptual_part(images) - wanted) / 32
        return float(apart.norm()), float((pool(images, (4, 4)) - coarse).norm())

    start, near = fitted(learning_rate=1e-9)
    better, moved = fitted()
    assert better < 0.6 * start
    free, away = fitted(faithfulness=0.0)
    assert free < start and near < moved < away


def test_the_finisher_has_the_interface_of_the_coarse_network() -> None:
    finisher = Finisher(WIDTH, 1, COARSE)
    x, level, record, mask = arguments(2)
    assert torch.equal(finisher(x, level, record, mask), torch.zeros_like(x))
    clean = edm.denoise(finisher, x, torch.tensor([0.1, 0.2]), record, mask, sigma_data=0.5)
    assert clean.shape == x.shape
