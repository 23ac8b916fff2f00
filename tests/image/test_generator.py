"""The generator fitted to mean embeddings, and its loss against brute force."""

import numpy as np
import pytest
import torch

from dagster_project.image.embeddings import cell_sums
from dagster_project.image.generator import (
    ImageGenerator,
    draw_images,
    fit_generator,
    saturation,
    total_variation,
)
from dagster_project.image.matching import matching_loss
from dagster_project.privacy.grid import to_numbers
from dagster_project.settings.sections import ImageGeneratorSettings
from tests.image.feature_toys import feature_map, one_hot

TINY = {
    "latent": 4, "hidden": 24, "steps": 200, "batch": 60, "learning_rate": 2e-2, "shift": 0.0,
}  # fmt: skip


def silent(fraction, text):
    pass


def brute_force(features, record, target, weight):
    """Over all distinct pairs of pictures of a cell, one after the other."""
    value = 0.0
    for cell in range(record.shape[1]):
        own = features[record[:, cell] == 1]
        if len(own) < 2:
            continue
        products = [a @ b for i, a in enumerate(own) for j, b in enumerate(own) if i != j]
        cross = own.mean(0) @ target[cell]
        value += weight[cell] * (sum(products) / len(products) - 2 * cross)
    return value


def test_loss_is_the_mean_over_distinct_pairs():
    random = torch.Generator().manual_seed(0)
    features = torch.randn(9, 5, generator=random, dtype=torch.float64)
    codes = np.array([[0, 0], [0, 1], [1, 2], [1, 1], [0, 1], [1, 0], [0, 0], [1, 1], [0, 1]])
    record = torch.from_numpy(one_hot(codes, (2, 4))).double()  # cell 2 has one, cell 3 nobody
    target = torch.randn(6, 5, generator=random, dtype=torch.float64)
    weight = torch.rand(6, generator=random, dtype=torch.float64)
    found = matching_loss(features, record, target, weight)
    assert found.item() == pytest.approx(float(brute_force(features, record, target, weight)))
    features.requires_grad_()
    gradients = [
        torch.autograd.grad(2 * loss(features, record, target, weight), features)[0]
        for loss in (matching_loss, brute_force)
    ]
    assert torch.allclose(*gradients, rtol=1e-12)


def test_loss_is_unbiased():
    """Its mean over batches is |m - t|^2 - |t|^2, without the variance of the features."""
    rng = np.random.default_rng(1)
    mean, target = np.array([0.5, -0.2, 0.1]), np.array([0.1, 0.3, -0.4])
    record, weight = torch.ones(4, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    values = []
    for _ in range(4000):
        features = torch.from_numpy(mean + 0.5 * rng.normal(size=(4, 3)))
        values.append(float(matching_loss(features, record, torch.tensor(target[None]), weight)))
    expected = ((mean - target) ** 2).sum() - (target**2).sum()
    error = np.std(values) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(expected, abs=5 * error)
    # The plain square of the batch mean would add 3 * 0.25 / 4.
    assert 5 * error < 3 * 0.25 / 4 / 2


def halves(count, rng, levels=(30, 220)):
    """Pictures bright on the left (cell 0) or on the right (cell 1)."""
    codes = rng.integers(0, 2, (count, 1))
    dark, bright = levels
    images = np.full((count, 1, 4, 4), dark, np.uint8)
    images[codes[:, 0] == 0, :, :, :2] = bright
    images[codes[:, 0] == 1, :, :, 2:] = bright
    return images, one_hot(codes, (2,))


def fit(shape=(1, 4, 4), levels=(30, 220), **changes):
    rng = np.random.default_rng(2)
    images, member = halves(400, rng, levels)
    public = feature_map(frequencies=60)
    means = to_numbers(cell_sums(images, member, public)) / member.sum(0)[:, None]
    shares = np.array([0.5, 0.5])
    draw = np.random.default_rng(3)
    return fit_generator(
        means,
        shares,
        lambda n: one_hot(draw.integers(0, 2, (n, 1)), (2,)),
        public,
        shape,
        0.01,
        ImageGeneratorSettings(**{**TINY, **changes}),
        silent,
        seed=0,
    )


def drawn(model, cell, n=50, seed=0):
    record = np.tile(np.eye(2, dtype=np.float32)[cell], (n, 1))
    return draw_images(model, record, generator=torch.Generator().manual_seed(seed)).numpy()


def test_fits_two_different_cells():
    model = fit()
    assert not model.training
    for cell, bright in ((0, slice(0, 2)), (1, slice(2, 4))):
        image = drawn(model, cell).mean(0)[0]
        dark = slice(2, 4) if cell == 0 else slice(0, 2)
        assert image[:, bright].mean() == pytest.approx(220 / 255, abs=0.15)
        assert image[:, dark].mean() == pytest.approx(30 / 255, abs=0.15)


def test_progress_and_seed():
    told = []
    rng = np.random.default_rng(0)
    images, member = halves(50, rng)
    public = feature_map()
    means = to_numbers(cell_sums(images, member, public)) / member.sum(0)[:, None]
    settings = ImageGeneratorSettings(**{**TINY, "steps": 4})

    def once(seed=0, progress=silent):
        draw = np.random.default_rng(3)
        return fit_generator(
            means,
            np.array([0.5, 0.5]),
            lambda n: one_hot(draw.integers(0, 2, (n, 1)), (2,)),
            public,
            (1, 4, 4),
            0.0,
            settings,
            progress,
            seed=seed,
        ).state_dict()

    torch.manual_seed(11)
    first = once(progress=lambda f, t: told.append((f, t)))
    torch.manual_seed(12)  # the seed that counts is the setting's
    second = once()
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert any(not torch.equal(first[n], t) for n, t in once(seed=1).items())
    assert [f for f, _ in told] == [0.25, 0.5, 0.75, 1.0]


def test_cells_left_out_have_no_weight():
    """Their means are zeros and would pull the generator."""
    random = torch.Generator().manual_seed(0)
    features, target = torch.randn(6, 3, generator=random), torch.randn(2, 3, generator=random)
    record = torch.eye(2)[[0, 0, 0, 1, 1, 1]]
    weight = torch.tensor([1.0, 0.0])
    one = matching_loss(features, record, target, weight)
    features[3:], target[1] = 100.0, -100.0
    assert torch.equal(one, matching_loss(features, record, target, weight))


def test_total_variation_of_known_images():
    """A half-white picture has one edge of length and height 1, at any size and in each channel."""
    for size in ((8, 8), (40, 20)):
        half = torch.zeros(2, 3, *size)
        half[..., : size[1] // 2] = 1
        assert total_variation(half).item() == pytest.approx(1, abs=0.04)
    assert total_variation(torch.full((2, 1, 5, 5), 0.3)).item() == pytest.approx(0, abs=0.04)
    # Channels that share their edge pay less than channels that have one each.
    shared, apart = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    shared[..., :4] = 1
    apart[:, 0, :, :4], apart[:, 1, :4] = 1, 1
    assert total_variation(shared) < 0.8 * total_variation(apart)


def test_total_variation_sees_dots_along_every_border():
    dotted = torch.zeros(1, 1, 8, 8)
    dotted[..., -1, ::2] = 1
    for turns in range(4):
        assert total_variation(torch.rot90(dotted, turns, dims=(2, 3))) > 0.5


def test_the_price_of_variation_takes_speckle_away_and_leaves_the_halves():
    """Pictures of more pixels than the features see are free between them but for the priors."""
    free, priced = (
        fit(shape=(1, 12, 12), smoothness=0.0, total_variation=weight) for weight in (0.0, 2.0)
    )
    for cell in (0, 1):
        speckled, clean = drawn(free, cell), drawn(priced, cell)
        assert total_variation(torch.from_numpy(clean)) < 0.6 * total_variation(
            torch.from_numpy(speckled)
        )
        bright, dark = (0, 6) if cell == 0 else (6, 0)
        gap = clean[..., bright : bright + 6].mean() - clean[..., dark : dark + 6].mean()
        assert gap > 0.5


def test_saturation_of_known_logits():
    assert saturation(torch.tensor([-6.0, 0.0, 5.9, 6.0])) == 0
    assert saturation(torch.tensor([[-8.0, 0.0], [9.0, 1.0]])) == pytest.approx((4 + 9) / 4)


def test_the_price_of_saturation_brings_back_what_the_sigmoid_lost():
    def fitted(price):
        logit = torch.tensor([-30.0], requires_grad=True)
        optimizer = torch.optim.Adam([logit], lr=0.5)
        for _ in range(300):
            optimizer.zero_grad()
            ((1 - logit.sigmoid()).square().sum() + price * saturation(logit)).backward()
            optimizer.step()
        return logit.item()

    assert fitted(0.0) < -25 and fitted(ImageGeneratorSettings().saturation) > 2


def test_the_fit_keeps_logits_within_reach():
    def furthest(price):
        model = fit(levels=(0, 255), learning_rate=0.1, saturation=price)
        records = torch.eye(2)[[0, 1] * 20]
        return model.draw_logits(records, torch.Generator().manual_seed(0)).abs().max()

    assert furthest(10.0) < 7 < furthest(0.0)


def test_images_are_within_bounds_and_repeat_with_the_seed():
    model = ImageGenerator(2, (3, 4, 5), ImageGeneratorSettings(**TINY)).eval()
    records = np.eye(2, dtype=np.float32)[np.arange(7) % 2]

    def draw(seed, chunk=2048):
        random = torch.Generator().manual_seed(seed)
        return draw_images(model, records, generator=random, chunk=chunk)

    assert draw(0).shape == (7, 3, 4, 5)
    assert draw(0).min() >= 0 and draw(0).max() <= 1
    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))
    assert draw(0, chunk=3).shape == (7, 3, 4, 5)


def test_a_image_is_a_window_of_a_larger_one_that_moves_by_a_share_of_its_sides():
    model = ImageGenerator(2, (1, 20, 10), ImageGeneratorSettings(**{**TINY, "shift": 0.1})).eval()
    record = torch.eye(2)[[0, 1] * 40]
    noise = torch.randn(80, TINY["latent"], generator=torch.Generator().manual_seed(0))
    whole, drawn = model(record, noise), model.draw(record, torch.Generator().manual_seed(0))
    assert whole.shape == (80, 1, 24, 12) and drawn.shape == (80, 1, 20, 10)
    offsets = set()
    for one, part in zip(whole, drawn, strict=True):
        places = [(y, x) for y in range(5) for x in range(3)]
        offsets |= {(y, x) for y, x in places if torch.equal(one[:, y : y + 20, x : x + 10], part)}
    assert offsets == {(y, x) for y in range(5) for x in range(3)}


def test_basis_is_orthonormal():
    model = ImageGenerator(2, (1, 4, 5), ImageGeneratorSettings(**TINY))
    for basis, size in ((model.rows, 4), (model.columns, 5)):
        assert torch.allclose(basis @ basis.T, torch.eye(size), atol=1e-6)
    assert (model.prior.diff(dim=0) < 0).all() and (model.prior.diff(dim=1) < 0).all()
