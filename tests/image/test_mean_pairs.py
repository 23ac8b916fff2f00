"""Mean pairs: exact sensitivity, noise scale, and what is made from the noisy sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.image.mean_pairs import CellSums, random_groups
from dagster_project.image.released_means import (
    MeanPairs,
    complete,
    make_consistent,
    shrink,
    uniform_records,
)
from dagster_project.privacy.grid import UNITS
from dagster_project.privacy.mechanism import MechanismMismatch
from dagster_project.privacy.noise import SecureGenerator
from tests.image.feature_toys import Silent, feature_map, noisy_sums, one_hot, sensitivity

NEARLY = 1 - 2.0**-16  # the grid scales by 1 - 2^-17, and truncates
SIZES = (2, 3, 2)
CLIP = 0.5 * 16**0.5


def release(images, codes, *, generator=None, **changes):
    options = {"attributes": len(SIZES), "noise_multiplier": 3.0, **changes}
    public = feature_map(pixel_clip=CLIP)
    member = one_hot(codes, SIZES)
    return noisy_sums(images, member, public, generator=generator or Silent(), **options)


def person(rng, extreme):
    """An image as far out as images go, or an ordinary one, with a record."""
    fills = (0, 255, rng.integers(0, 2, (1, 8, 8)) * 255, rng.integers(0, 256, (1, 8, 8)))
    image = np.broadcast_to(fills[extreme], (1, 8, 8)).astype(np.uint8)
    return image, np.array([rng.integers(size) for size in SIZES])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    others=st.integers(0, 6),
    extreme=st.integers(0, 3),
    crowd=st.booleans(),
)
def test_one_person_moves_the_sums_by_at_most_sqrt_d(seed, others, extreme, crowd):
    """Adversarial neighbours: everybody else the same person, or anybody; noise off."""
    rng = np.random.default_rng(seed)
    image, codes = person(rng, extreme)
    people = [(image, codes) if crowd else person(rng, rng.integers(4)) for _ in range(others)]
    images = np.stack([image, *(p[0] for p in people)])
    records = np.stack([codes, *(p[1] for p in people)])
    with_all = release(images, records)
    without = release(images[1:], records[1:])
    moved = np.linalg.norm(with_all - without)
    assert moved <= sensitivity(len(SIZES)) * (1 + 1e-6)
    # phi has norm at least sqrt(0.9) here, so the bound is nearly met: it is not just large.
    assert moved >= np.sqrt(0.9 * len(SIZES)) * (1 - 1e-5)


PLAIN = feature_map(pixel_share=1.0, centred=False, pixel_clip=4.0)  # as published


def counted(images, codes, public=PLAIN, noise_multiplier=1.0, generator=None):
    return noisy_sums(
        images, one_hot(codes, SIZES), public, attributes=len(SIZES), counted=True,
        noise_multiplier=noise_multiplier, generator=generator or Silent(),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    others=st.integers(0, 6),
    extreme=st.integers(0, 3),
    crowd=st.booleans(),
    plain=st.booleans(),
)
def test_one_person_moves_sums_and_counts_together_by_at_most_sqrt_2d(
    seed, others, extreme, crowd, plain
):
    rng = np.random.default_rng(seed)
    image, codes = person(rng, extreme)
    people = [(image, codes) if crowd else person(rng, rng.integers(4)) for _ in range(others)]
    images = np.stack([image, *(p[0] for p in people)])
    records = np.stack([codes, *(p[1] for p in people)])
    public = PLAIN if plain else feature_map(pixel_clip=CLIP)
    moved = counted(images, records, public) - counted(images[1:], records[1:], public)
    assert np.linalg.norm(moved) <= sensitivity(3, counted=True) * (1 + 1e-6)
    # The counts alone move by sqrt(d), and in the person's own cells.
    np.testing.assert_array_equal(moved[:, -1], one_hot(codes[None], SIZES)[0])


def test_a_white_image_in_rare_cells_or_an_empty_data_set_meets_the_joint_bound():
    white = np.full((1, 1, 8, 8), 255, np.uint8)
    crowd = np.zeros((5, 1, 8, 8), np.uint8)
    rare, common = np.array([[1, 2, 1]]), np.zeros((5, 3), int)
    alone = counted(white, rare) - counted(white[:0], rare[:0])
    among = counted(np.concatenate([crowd, white]), np.concatenate([common, rare])) - counted(
        crowd, common
    )
    for moved in (alone, among):
        assert NEARLY * np.sqrt(6) < np.linalg.norm(moved) <= np.sqrt(6)
    assert sensitivity(3, counted=True) == pytest.approx(np.sqrt(6))


@settings(max_examples=40, deadline=None)
@given(d=st.integers(1, 30), noise_multiplier=st.floats(0.5, 50))
def test_the_noise_is_the_papers_joint_multiplier(d, noise_multiplier):
    """Theorem 2: sigma_P = (d / sigma_m^2 + d / sigma_x^2)^(-1/2), with both the drawn scale."""
    drawn = Silent()
    member = np.ones((1, d), np.float32)
    noisy_sums(
        np.zeros((1, 1, 8, 8), np.uint8), member, PLAIN, attributes=d, counted=True,
        noise_multiplier=noise_multiplier, generator=drawn,
    )  # fmt: skip
    (scale,) = drawn.scales
    assert (d / scale**2 + d / scale**2) ** -0.5 == pytest.approx(noise_multiplier)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), people=st.integers(1, 8), gone=st.integers(0, 7))
def test_random_groups_keep_the_bound_whoever_leaves(seed, people, gone):
    """Given everybody's throws, as in the proof: a person takes their own along, and the others
    keep theirs."""
    rng, gone = np.random.default_rng(seed), gone % people
    images = rng.integers(0, 2, (people, 1, 8, 8)).astype(np.uint8) * 255
    groups = random_groups(people, SIZES, generator=SecureGenerator())
    left = np.arange(people) != gone
    moved = counted(images, groups) - counted(images[left], groups[left])
    assert np.linalg.norm(moved) <= sensitivity(3, counted=True) * (1 + 1e-6)


def test_random_groups_are_fair_independent_dice():
    groups = random_groups(60_000, SIZES, generator=SecureGenerator())
    assert groups.shape == (60_000, 3)
    joint = np.zeros(SIZES)
    np.add.at(joint, tuple(groups.T), 1)
    expected = 60_000 / joint.size
    chi = ((joint - expected) ** 2 / expected).sum()
    assert chi < 11 + 6 * np.sqrt(22)
    assert random_groups(0, SIZES, generator=SecureGenerator()).shape == (0, 3)


def test_the_bound_is_met():
    black = np.zeros((1, 1, 8, 8), np.uint8)
    moved = release(black, np.array([[0, 0, 0]])) - release(black[:0], np.zeros((0, 3), int))
    assert NEARLY * np.sqrt(3) < np.linalg.norm(moved) <= np.sqrt(3)
    assert sensitivity(3) == pytest.approx(np.sqrt(3))


@pytest.mark.parametrize("fault", ["two cells", "no cell", "weight", "part of a cell"])
def test_a_person_in_other_than_one_cell_for_each_attribute_is_refused(fault):
    """The bound rests on it."""
    images = np.zeros((2, 1, 8, 8), np.uint8)
    member = one_hot(np.zeros((2, 3), int), SIZES)
    if fault == "two cells":
        member[1, 1] = 1  # both cells of the first attribute
    elif fault == "no cell":
        member[1, 0] = 0
    elif fault == "part of a cell":
        member[1, 1] = 0.5
    else:
        member[1, 0] = 2
    with pytest.raises(ValueError, match="exactly one cell"):
        noisy_sums(
            images, member, feature_map(), attributes=3, noise_multiplier=1.0, generator=Silent()
        )


def test_two_rows_of_one_person_would_break_the_bound():
    """A planted fault: the sums cannot see persons, so reading must bring one row of each. The
    doubled row moves them by twice the sensitivity, which is why `read_pairs` is tested for it."""
    images = np.zeros((2, 1, 8, 8), np.uint8)
    moved = release(images, np.zeros((2, 3), int)) - release(images[:0], np.zeros((0, 3), int))
    assert NEARLY * 2 * sensitivity(3) < np.linalg.norm(moved) <= 2 * sensitivity(3)


def test_reading_brings_one_row_of_a_person(tmp_path):
    from dagster_project.data.reading import read_pairs
    from tests.data.toys import SCHEMA, columns, write

    table = columns(6, id={1: "p0", 2: " p0 "})
    pairs, _, _ = read_pairs(write(tmp_path / "data", table), SCHEMA, heldout_key=None)
    assert len(pairs) == 4


def test_noise_has_the_planned_scale():
    generator = Silent()
    release(np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 3), int), generator=generator)
    assert generator.scales == [pytest.approx(3.0 * np.sqrt(3))]
    public = feature_map(frequencies=7000)
    noise = noisy_sums(
        np.zeros((0, 1, 8, 8), np.uint8),
        np.zeros((0, 7), np.float32),
        public,
        attributes=3,
        noise_multiplier=3.0,
        generator=SecureGenerator(),
    ) / (3.0 * np.sqrt(3))
    assert noise.size > 1.9e5
    assert noise.std() == pytest.approx(1, abs=5 / np.sqrt(2 * noise.size))
    assert noise.mean() == pytest.approx(0, abs=5 / np.sqrt(noise.size))
    # Cells and coordinates are independent of each other.
    assert abs(np.corrcoef(noise)[np.triu_indices(7, 1)]).max() < 5 / np.sqrt(noise.shape[1])


def test_consistent_sums_have_one_total_and_stay_unbiased():
    rng = np.random.default_rng(0)
    truth = rng.random((7, 5))
    for block in np.split(np.arange(7), np.cumsum(SIZES)[:-1]):
        truth[block] *= 1 / truth[block].sum(0)
    np.testing.assert_allclose(make_consistent(truth, SIZES), truth, atol=1e-12)
    noise = rng.normal(size=(4000, 7, 5))
    made = np.stack([make_consistent(truth + n, SIZES) for n in noise])
    totals = [made[:, b].sum(1) for b in np.split(np.arange(7), np.cumsum(SIZES)[:-1])]
    np.testing.assert_allclose(totals[0], totals[1], atol=1e-9)
    np.testing.assert_allclose(totals[0], totals[2], atol=1e-9)
    np.testing.assert_allclose(made.mean(0), truth, atol=5 / np.sqrt(len(noise)))
    # Least squares: the error is smaller than that of the noisy sums themselves.
    assert (made - truth).var() < 0.8 * noise.var()


def test_consistency_is_the_least_squares_solution():
    """Against the projection on the subspace of equal totals."""
    sums = np.random.default_rng(1).normal(size=(7, 1))
    constraint = np.zeros((2, 7))
    constraint[0, :2], constraint[0, 2:5] = 1, -1
    constraint[1, :2], constraint[1, 5:] = 1, -1
    projection = np.eye(7) - np.linalg.pinv(constraint) @ constraint
    np.testing.assert_allclose(make_consistent(sums, SIZES), projection @ sums, atol=1e-12)


def completed(sums, **changes):
    options = {
        "sizes": SIZES,
        "probabilities": np.array([0.5, 0.5, 0.7, 0.299, 0.001, 0.4, 0.6]),
        "soft_records": np.full((7, 7), 1 / 7),
        "people": 1000.0,
        "noise_scale": 6.0,
        "feature_map": feature_map(pixel_clip=CLIP),
        "minimum_count": 10.0,
        **changes,
    }
    return complete(sums, **options)


def test_means_are_sums_over_the_models_counts():
    rng = np.random.default_rng(2)
    codes = np.stack([rng.choice(2, 1000), rng.choice(3, 1000), rng.choice(2, 1000)], axis=1)
    images = rng.integers(0, 256, (1000, 1, 8, 8), dtype=np.uint8)
    shares = one_hot(codes, SIZES).mean(0)
    made = completed(release(images, codes), probabilities=shares)
    for cell in (0, 3, 6):
        chosen = images[one_hot(codes, SIZES)[:, cell] == 1]
        whole = feature_map(pixel_clip=CLIP)
        means = release(chosen[:, :, ::1], codes[one_hot(codes, SIZES)[:, cell] == 1])[cell]
        np.testing.assert_allclose(made.means[cell], means / len(chosen), atol=1e-6)
        assert made.noise_std[cell] == pytest.approx(6.0 / len(chosen))
        assert made.means.shape == (7, whole.size)


def test_cells_of_too_few_people_are_left_out():
    made = completed(np.ones((7, feature_map().size)))
    assert made.shares[4] == 0 and not made.means[4].any()
    assert (made.shares[[0, 1, 2, 3, 5, 6]] > 0).all()
    assert np.isfinite(made.noise_std).all()


def test_cells_whose_mean_is_mostly_noise_are_left_out():
    """The noise of cell 4 has the expected norm 6 sqrt(size) / 1, that of cell 3 a 299th of it."""
    size = feature_map().size
    made = completed(np.ones((7, size)), minimum_count=0.0, maximum_noise=6 * size**0.5 / 200)
    assert made.shares[4] == 0 and not made.means[4].any()
    assert (made.shares[[0, 1, 2, 3, 5, 6]] > 0).all()
    only = completed(np.ones((7, size)), minimum_count=0.0, maximum_noise=6 * size**0.5 / 600)
    assert (only.shares > 0).tolist() == [False, False, True, False, False, False, True]


def test_noise_of_a_mean_over_everybody():
    shares = np.array([0.5, 0.5, 0.3, 0.7, 0.0, 0.9, 0.1])  # one cell is left out
    made = completed(np.ones((7, feature_map().size)), probabilities=shares)
    assert made.noise == pytest.approx(6.0 / 1000)
    assert MeanPairs.none(7, feature_map()).noise == 0


def test_nothing_here_counts_the_people():
    """Counts come from the table model: the same sums give the same means whoever is there."""
    sums = np.random.default_rng(3).normal(size=(7, feature_map().size))
    doubled = completed(sums, people=2000.0)
    np.testing.assert_allclose(completed(sums).means[0], 2 * doubled.means[0])


def test_noisy_counts_divide_and_decide_which_cells_stay():
    codes = np.repeat([[0, 0, 0], [1, 1, 1]], (150, 20), axis=0)
    images = np.full((170, 1, 8, 8), 51, np.uint8)
    sums = counted(images, codes)
    made = completed(
        sums[:, :-1], counts=sums[:, -1], people=170.0, minimum_count=100.0, consistent=False,
        feature_map=PLAIN, probabilities=np.full(7, 0.5), noise_scale=1e-9,
    )  # fmt: skip
    assert (made.shares > 0).tolist() == [True, False, True, False, False, True, False]
    np.testing.assert_allclose(made.images(denoised=False)[[0, 2, 5]], 0.2, atol=1e-6)
    # Noise can make a count negative: then the cell has no share, and nothing is infinite.
    none = completed(sums[:, :-1], counts=-np.ones(7), minimum_count=0.0, feature_map=PLAIN)
    assert not none.shares.any() and np.isfinite(none.means).all()


def test_sums_are_left_as_they_are_where_consistency_is_off():
    sums = np.random.default_rng(3).normal(size=(7, feature_map().size))
    plain = completed(sums, consistent=False)
    np.testing.assert_allclose(plain.means[0] * 500, sums[0])
    assert not np.allclose(plain.means, completed(sums).means)


def test_uniform_records_say_nothing():
    records = uniform_records(SIZES)
    assert records.shape == (7, 7) and (records == records[0]).all()
    assert records[0].tolist() == pytest.approx([1 / 2] * 2 + [1 / 3] * 3 + [1 / 2] * 2)


def test_no_mean_pairs_are_an_empty_set(tmp_path):
    MeanPairs.none(7, PLAIN).save(tmp_path)
    found = MeanPairs.load(tmp_path)
    assert found.images().shape == found.images(denoised=False).shape == (0, 1, 4, 4)
    assert found.soft_records.shape == (0, 7) and found.feature_map == PLAIN


def test_shrinkage_reduces_the_error():
    rng = np.random.default_rng(4)
    cells, size = 12, 300
    signal = rng.normal(size=size) * (np.arange(size) < 100)  # most coordinates carry nothing
    truth = 0.3 + rng.normal(size=(cells, size)) * abs(signal) * 0.3
    noise_std = rng.uniform(0.1, 0.6, cells)
    shares = np.full(cells, 1 / cells)
    plain, shrunk = [], []
    for _ in range(5):
        noisy = truth + rng.normal(size=truth.shape) * noise_std[:, None]
        plain.append(((noisy - truth) ** 2).mean())
        shrunk.append(((shrink(noisy, noise_std, shares) - truth) ** 2).mean())
    assert np.mean(shrunk) < 0.5 * np.mean(plain)


def test_shrinkage_leaves_exact_means_alone():
    truth = np.random.default_rng(5).normal(size=(4, 6))
    np.testing.assert_allclose(shrink(truth, np.zeros(4), np.full(4, 0.25)), truth, atol=1e-9)


def test_mean_images_are_the_people_of_the_cell():
    """All white in one cell, all black in the other, no noise."""
    codes = np.repeat([[0, 0, 0], [1, 1, 1]], 50, axis=0)
    images = np.repeat(np.array([255, 0], np.uint8), 50).reshape(100, 1, 1, 1)
    images = np.broadcast_to(images, (100, 1, 8, 8)).copy()
    shares = one_hot(codes, SIZES).mean(0)
    made = completed(release(images, codes), probabilities=shares, people=100.0, noise_scale=1e-9)
    drawn = made.images()
    assert drawn.shape == (7, 1, 4, 4)
    np.testing.assert_allclose(drawn[0], 1, atol=1e-3)
    np.testing.assert_allclose(drawn[1], 0, atol=1e-3)


def test_files_read_back_bit_by_bit_and_without_pickle(tmp_path):
    made = completed(np.random.default_rng(6).normal(size=(7, feature_map().size)))
    made.save(tmp_path / "here")
    found = MeanPairs.load(tmp_path / "here")
    assert found.feature_map == made.feature_map
    for name in ("means", "noise_std", "shares", "soft_records"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
    np.testing.assert_array_equal(found.images(), made.images())
    for file in (tmp_path / "here").glob("*.npz"):
        with np.load(file, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind == "f" for name in arrays.files)


def test_sums_that_were_noised_more_than_once_are_refused():
    """The best of several, or their mean, would be another mechanism."""
    mechanism = CellSums(noise_multiplier=2.0, sample_rate=1.0, attributes=4)
    mechanism.verify({("gaussian", 4.0 * UNITS): 1})
    with pytest.raises(MechanismMismatch, match="2 gaussian draws"):
        mechanism.verify({("gaussian", 4.0 * UNITS): 2})
    with pytest.raises(MechanismMismatch, match="noise_multiplier"):
        mechanism.verify({("gaussian", 2.0 * UNITS): 1})
