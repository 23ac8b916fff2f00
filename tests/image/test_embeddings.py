"""Feature maps whose norm never passes one, and their sums over cells."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dagster_project.image.embeddings import FeatureMap, cell_sums
from dagster_project.privacy.grid import to_numbers
from tests.image.feature_toys import feature_map, one_hot

image_batches = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 12), st.integers(1, 12)),
    elements=st.sampled_from([0, 1, 127, 128, 254, 255]),
)
maps = st.fixed_dictionaries(
    {
        "pixel_share": st.sampled_from([0.0, 0.1, 0.99, 1.0]),
        "centred": st.booleans(),
        "pixel_clip": st.sampled_from([1e-6, 0.5, 2.0, 1e6]),
        "scales": st.sampled_from([(1.0,), (1 / 3, 1 / 6), (1e-6, 1e4)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(images=image_batches, changes=maps)
def test_no_image_has_a_norm_above_one(images, changes):
    size = dict(zip(("channels", "height", "width"), images.shape[1:], strict=True))
    public = feature_map(**size, **changes)
    pooled = torch.from_numpy(images).float() / 255
    features = public(pooled).double()
    assert features.shape == (len(images), public.size)
    assert (features.norm(dim=1) <= 1 + 1e-6).all()
    fourier = public.fourier(pooled).double()
    assert fourier.norm(dim=1).numpy() == pytest.approx(1, abs=1e-6)
    pixel = public.pixel_part(pooled).double()
    assert (pixel.norm(dim=1) <= 1 + 1e-6).all()


def test_values_beyond_any_image_are_clipped_too():
    """The bound is the map's own and does not rest on what a picture can hold."""
    pooled = torch.tensor([[1e9] * 16, [-1e9] * 16, [1e30] + [0.0] * 15]).reshape(3, 1, 4, 4)
    assert (feature_map()(pooled).double().norm(dim=1) <= 1 + 1e-6).all()


def test_the_two_parts_share_the_norm():
    pooled = torch.rand(5, 1, 4, 4)
    public = feature_map(pixel_clip=1e-3)  # every picture is clipped
    features = public(pooled).double()
    assert features[:, : public.fourier_size].square().sum(1).numpy() == pytest.approx(0.9)
    assert features[:, public.fourier_size :].square().sum(1).numpy() == pytest.approx(0.1)


def test_images_of_the_largest_norm_meet_the_clip_and_pass_it_nowhere():
    """The release's clip is the largest norm a centred picture can have: nothing is lost."""
    public = feature_map(pixel_clip=0.5 * 16**0.5)
    extreme = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    part = public.pixel_part(extreme)
    assert part.norm(dim=1).numpy() == pytest.approx(1)
    assert torch.allclose(part * public.pixel_clip + 0.5, extreme.flatten(1), atol=1e-6)


def test_plain_mean_images_are_sums_of_pixels_of_sensitivity_sqrt_pixels():
    """phi is the picture over the largest norm of one, sqrt(pixels): all white has norm 1."""
    public = feature_map(pixel_share=1.0, centred=False, pixel_clip=4.0)
    assert (public.size, public.fourier_size) == (16, 0)
    white, black, any_ = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), torch.rand(1, 1, 4, 4)
    assert public(white).norm().item() == pytest.approx(1) and not public(black).any()
    assert torch.allclose(public(any_) * 4, any_.flatten(1))


def test_the_map_decides_the_size_whatever_its_shape():
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 12, 8), dtype=np.uint8)
    public = feature_map(height=6, width=4, pixel_share=1.0, centred=False, pixel_clip=24**0.5)
    found = cell_sums(images, np.ones((3, 1), np.float32), public)
    expected = images.reshape(3, 6, 2, 4, 2).mean((2, 4)).sum(0).flatten() / 255 / 24**0.5
    np.testing.assert_allclose(to_numbers(found[0]), expected, rtol=1e-5)


def test_projections_follow_the_public_seed_alone():
    assert torch.equal(feature_map().projections, feature_map().projections)
    assert not torch.equal(feature_map().projections, feature_map(seed=1).projections)
    # The typical phase does not depend on the number of pixels.
    large = feature_map(height=14, width=14, frequencies=500)
    assert large.projections[:, :500].std().item() == pytest.approx(1 / 3, rel=0.02)
    assert feature_map(frequencies=500).projections[:, :500].std().item() == pytest.approx(
        (1 / 3) * (196 / 16) ** 0.5, rel=0.05
    )


def test_fourier_features_are_the_gaussian_kernel():
    """Inner products approximate exp(-scale^2 |x - y|^2 / 2) (Rahimi and Recht 2007)."""
    public = feature_map(scales=(0.2,), frequencies=4000, pixel_share=0.0)
    x, y = torch.rand(2, 1, 1, 4, 4)
    scale = 0.2 * (196 / 16) ** 0.5
    expected = torch.exp(-(scale**2) * (x - y).square().sum() / 2)
    found = (public(x) * public(y)).sum()
    assert found.item() == pytest.approx(expected.item(), abs=0.05)


@pytest.mark.parametrize(
    "changes", [{"pixel_share": 1.1}, {"pixel_share": -0.1}, {"pixel_clip": 0}, {"frequencies": 0}]
)
def test_settings_without_meaning_are_refused(changes):
    with pytest.raises(ValueError):
        feature_map(**changes)


def naive_sums(images, member, public: FeatureMap):
    total = np.zeros((member.shape[1], public.size))
    for image, row in zip(images, member, strict=True):
        phi = public(public.pool(torch.from_numpy(image[None]).float() / 255))[0].double().numpy()
        for cell in np.flatnonzero(row):
            total[cell] += phi
    return total


@pytest.mark.parametrize("chunk", [3, 2048])
def test_cell_sums_are_the_plain_loop(chunk):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
    member = one_hot(rng.integers(0, 2, (10, 3)), (2, 3, 2))
    public = feature_map()
    found = cell_sums(images, member, public, chunk=chunk)
    assert found.dtype == np.int64
    np.testing.assert_allclose(to_numbers(found), naive_sums(images, member, public), atol=1e-5)


def test_a_persons_sum_does_not_follow_the_number_of_people():
    public = feature_map(frequencies=300)
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    member = np.zeros((300, 1), np.float32)
    member[0] = 1  # all others are looked at, and in no cell
    sums = [cell_sums(images[:n], member[:n], public) for n in (1, 2, 7, 100, 300)]
    assert all(np.array_equal(sums[0], other) for other in sums)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_persons_sum_does_not_follow_their_place(share):
    """One person removed moves all that follow to another row of their batch."""
    public = feature_map(frequencies=300, perceptual_share=share)
    places = range(256) if share == 0 else (0, 1, 2, 15, 16, 30, 31, 32, 63)
    rng = np.random.default_rng(0)
    person = rng.integers(0, 256, (1, 8, 8), dtype=np.uint8)
    seen = set()
    for place in places:
        images = rng.integers(0, 256, (256 if share == 0 else 64, 1, 8, 8), dtype=np.uint8)
        member = np.zeros((len(images), 1), np.float32)
        images[place], member[place] = person, 1
        seen.add(cell_sums(images, member, public).tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("chunk", [7, 64, 256])
def test_the_order_of_people_changes_no_bit(chunk):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (200, 1, 8, 8), dtype=np.uint8)
    member = one_hot(rng.integers(0, 2, (200, 3)), (2, 3, 2))
    public, order = feature_map(), rng.permutation(200)
    sums = cell_sums(images, member, public)
    assert np.array_equal(sums, cell_sums(images[order], member[order], public))
    # Each person's features come from a batch of another shape, so only to within the last bits.
    assert abs(sums - cell_sums(images, member, public, chunk=chunk)).max() <= 200


def test_the_number_of_cores_changes_no_bit():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (100, 1, 8, 8), dtype=np.uint8)
    member = one_hot(rng.integers(0, 2, (100, 3)), (2, 3, 2))
    public, before, seen = feature_map(perceptual_share=0.5), torch.get_num_threads(), set()
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            seen.add(cell_sums(images, member, public, chunk=32).tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(seen) == 1


def test_nobody_sums_to_zero():
    found = cell_sums(np.zeros((0, 1, 8, 8), np.uint8), np.zeros((0, 5), np.float32), feature_map())
    assert found.shape == (5, feature_map().size) and not found.any()


def test_pooling_averages():
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = feature_map(height=2, width=2).pool(images)
    assert pooled[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
