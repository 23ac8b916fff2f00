"""Features of a public network: their norm, and that nobody changes another's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dagster_project.image.generator import fit_generator
from dagster_project.image.matching import matching_loss
from dagster_project.image.perceptual import PerceptualMap, perceptual_map
from dagster_project.settings.sections import ImageGeneratorSettings
from tests.image.feature_toys import Silent, feature_map, noisy_sums, one_hot, sensitivity
from tests.image.test_generator import TINY, draw_images, silent

image_batches = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
    elements=st.sampled_from([0, 1, 127, 128, 254, 255]),
)


def scaled(images):
    return torch.from_numpy(images).float() / 255


@settings(max_examples=6, deadline=None)
@given(images=image_batches, share=st.sampled_from([0.01, 0.5, 0.99]))
def test_no_image_has_a_norm_above_one(images, share):
    public = feature_map(channels=images.shape[1], perceptual_share=share)
    with torch.no_grad():
        features = public(scaled(images)).double()
    assert features.shape == (len(images), public.size)
    assert (features.norm(dim=1) <= 1 + 1e-6).all()
    perceptual = features[:, public.pooled_size :]
    assert perceptual.shape[1] == PerceptualMap.size
    assert (perceptual.norm(dim=1) <= share**0.5 + 1e-6).all()


def test_far_away_features_are_clipped_to_norm_one_in_each_level():
    """The bound is the map's own, whatever the network says of a picture."""
    public = PerceptualMap(1)
    levels = [torch.full((2, width), 1e9) for width in (96, 160, 448, 1280)]
    public._levels = lambda _: levels
    features = public(torch.zeros(2, 1, 4, 4)).double()
    assert features.norm(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    assert features[:, :96].norm(dim=1).numpy() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("number", [1, 31, 32, 33])
def test_an_images_features_depend_on_it_alone(number):
    """Bit by bit the same whoever else is in the batch and wherever in it: one person more moves
    nobody's row but their own."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 1, 28, 28), dtype=np.uint8)
    others = rng.integers(0, 256, (number, 1, 28, 28), dtype=np.uint8)
    public = perceptual_map(1)
    with torch.no_grad():
        alone = public(scaled(image))[0]
        last = public(scaled(np.concatenate([others, image])))
        first = public(scaled(np.concatenate([image, others])))
    assert torch.equal(last[-1], alone) and torch.equal(first[0], alone)
    assert torch.equal(first[1:], last[:-1])


def test_one_person_moves_the_sums_by_sqrt_attributes_at_most():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    images[-1] = np.arange(28)[None] * 9  # a ramp: some level is clipped
    member = one_hot(rng.integers(0, 2, (5, 3)), (2, 2, 2))
    public = feature_map(perceptual_share=0.5)
    both = [
        noisy_sums(
            images[:n],
            member[:n],
            public,
            attributes=3,
            noise_multiplier=1.0,
            generator=Silent(),
        )
        for n in (5, 4)
    ]
    move = both[0] - both[1]
    assert np.linalg.norm(move) <= sensitivity(3) * (1 + 1e-6)
    assert (np.linalg.norm(move, axis=1) > 0.5).sum() == 3  # a row of each attribute


def test_the_parts_are_means_of_each_part_alone():
    images = torch.rand(6, 1, 8, 8)
    public = feature_map(perceptual_share=0.3)
    pooled, perceptual = public.parts(public(images).numpy())
    np.testing.assert_allclose(pooled, public.pooled_part(images), atol=1e-6)
    np.testing.assert_allclose(perceptual, public.perceptual_part(images), atol=1e-6)
    plain = feature_map()
    pooled, none = plain.parts(plain(images).numpy())
    assert none.shape == (6, 0) and pooled.shape == (6, plain.size)


def test_edges_are_told_from_their_blur_where_pooled_pixels_see_nothing():
    """Checks of one pixel and plain grey pool to the same; the network tells them apart."""
    checks = torch.zeros(1, 1, 8, 8)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 1
    grey = torch.full((1, 1, 8, 8), 0.5)
    public = feature_map(perceptual_share=0.5)
    assert torch.allclose(public.pooled_part(checks), public.pooled_part(grey), atol=1e-6)
    assert (public.perceptual_part(checks) - public.perceptual_part(grey)).norm() > 0.3


def test_the_generator_learns_texture_from_the_second_descent():
    rng = np.random.default_rng(0)
    stripes = np.zeros((64, 1, 12, 12), np.uint8)
    stripes[..., ::2] = 255
    stripes[32:] = stripes[32:].transpose(0, 1, 3, 2)
    codes = np.repeat([[0], [1]], 32, axis=0)
    member = one_hot(codes, (2,))
    public = feature_map(frequencies=30, perceptual_share=0.5)
    target = np.stack([public(scaled(stripes[codes[:, 0] == cell])).mean(0) for cell in (0, 1)])

    def loss(perceptual_steps):
        changes = {
            "perceptual_steps": perceptual_steps,
            "perceptual_batch": 32,
            "perceptual_learning_rate": 5e-3,
            "smoothness": 0.0,
            "total_variation": 0.0,
        }
        model = fit_generator(
            target,
            np.array([0.5, 0.5]),
            lambda n: one_hot(rng.integers(0, 2, (n, 1)), (2,)),
            public,
            (1, 12, 12),
            0.01,
            ImageGeneratorSettings(**{**TINY, **changes}),
            silent,
            seed=0,
        )
        drawn = draw_images(model, member[::2], generator=torch.Generator().manual_seed(0))
        wanted = torch.from_numpy(public.parts(target)[1]).float()
        features = public.perceptual_part(drawn)
        return matching_loss(
            features, torch.from_numpy(member[::2]), wanted, torch.full((2,), 0.5)
        ).item()

    assert loss(40) < loss(0) - 0.1
