"""The semantic query: exact sensitivity, labels of one picture alone, selection and records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.data.schema import ImageSpec
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.public_data import query as semantic_query
from dagster_project.public_data.procedural_pool import draw_pool
from dagster_project.public_data.query import LabelClassifier, LabelCounts, fit_classifier
from dagster_project.public_data.selection import (
    draw_records,
    label_order,
    records_of_labels,
    select_images,
)
from tests.image.feature_toys import Silent, one_hot

SPEC = ImageSpec("image", 1, 16, 16)
SIZES, LABELS = (2, 3, 2), 6


def silent(fraction: float, text: str) -> None:
    assert 0 <= fraction <= 1


@pytest.fixture(scope="module")
def pool():
    return draw_pool(600, SPEC, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted(pool):
    return fit_classifier(pool, extractor="pixels", progress=silent)


def counts(attributes, top_k, noise_multiplier=3.0):
    return LabelCounts(noise_multiplier=noise_multiplier, attributes=attributes, top_k=top_k)


def query(top, codes, sizes=SIZES, generator=None, noise_multiplier=3.0):
    top = np.asarray(top, np.int16)
    mechanism = counts(len(sizes), top.shape[1], noise_multiplier)
    member = one_hot(np.asarray(codes), sizes)
    return mechanism.run(top, member, labels=LABELS, generator=generator or Silent())


@st.composite
def neighbours(draw):
    """A person and others, who may all be that same person; one attribute or three; any k."""
    sizes = draw(st.sampled_from([(4,), SIZES]))
    k = draw(st.integers(1, LABELS))
    person = st.tuples(
        st.permutations(range(LABELS)).map(lambda order: order[:k]),
        st.tuples(*(st.integers(0, size - 1) for size in sizes)),
    )
    one = draw(person)
    others = draw(st.lists(st.one_of(st.just(one), person), max_size=6))
    return sizes, k, one, others


@settings(max_examples=150, deadline=None)
@given(case=neighbours())
def test_one_person_moves_the_counts_by_exactly_sqrt_dk(case):
    """Adversarial neighbours, noise off: everybody meets the bound, so it is exact."""
    sizes, k, one, others = case
    people = [one, *others]
    with_all = query([p[0] for p in people], [p[1] for p in people], sizes)
    codes = np.array([p[1] for p in others], int).reshape(len(others), len(sizes))
    top = np.array([p[0] for p in others], np.int16).reshape(len(others), k)
    moved = with_all - query(top, codes, sizes)
    assert math.isclose(np.linalg.norm(moved), counts(len(sizes), k).sensitivity())
    assert set(np.unique(moved)) <= {0.0, 1.0} and moved.sum() == len(sizes) * k


def test_with_one_class_attribute_it_is_the_papers():
    assert counts(1, 5).sensitivity() == math.sqrt(5)


def test_a_person_counted_twice_is_refused():
    with pytest.raises(ValueError, match="differ"):
        query([[1, 1]], [[0, 0, 0]])
    for top, member in (
        ([[0]], np.ones((1, 7))),
        ([[0, 1]], one_hot(np.zeros((1, 3), int), SIZES)),
    ):
        with pytest.raises(ValueError, match="k labels and one cell"):
            counts(3, 1).run(np.array(top), member, labels=LABELS, generator=Silent())


def test_the_noise_has_the_planned_scale_and_covers_empty_cells():
    sizes = (40, 50, 60)
    noise = query(np.empty((0, 2), np.int16), np.empty((0, 3), int), sizes, SecureGenerator(), 5.0)
    assert noise.shape == (150, LABELS) and (noise != 0).mean() > 0.9
    assert noise.std() == pytest.approx(5 * math.sqrt(6), rel=0.1)


def test_labels_are_those_of_the_public_images():
    train, fresh = (draw_pool(n, SPEC, rng=np.random.default_rng(n)) for n in (400, 100))
    _, classifier = fit_classifier(train, extractor="efficientnet-lite0", progress=silent)
    top = classifier.top(fresh.images, 3, silent)
    assert (top[:, 0] == fresh.labels).mean() > 0.5  # guessing: .05
    assert all(len(set(row)) == 3 for row in top.tolist())


@pytest.mark.parametrize("extractor", ["pixels", "efficientnet-lite0"])
def test_an_images_labels_depend_on_it_alone(pool, extractor, monkeypatch):
    """Bit by bit the same scores whoever else is in the batch, wherever in it: nobody's presence
    can flip another's label, not even in a tie."""
    few = draw_pool(60, SPEC, rng=np.random.default_rng(3))
    _, classifier = fit_classifier(few, extractor=extractor, progress=silent)
    seen = []
    real = np.argsort
    monkeypatch.setattr(
        semantic_query.np, "argsort", lambda a, **o: (seen.append(a.copy()), real(a, **o))[1]
    )

    def scores(images):
        seen.clear()
        classifier.top(images, 1, silent)
        return np.concatenate(seen)[: len(images)]

    images, rng = pool.images[:40], np.random.default_rng(1)
    whole = scores(images)
    assert np.array_equal(scores(images[:1])[0], whole[0])
    assert np.array_equal(scores(images[1:]), whole[1:])
    order = rng.permutation(40)
    assert np.array_equal(scores(images[order]), whole[order])


def test_labels_may_be_merged_to_groups_that_keep_every_image(pool):
    grouped, classifier = fit_classifier(pool, extractor="pixels", most=7, progress=silent)
    assert len(grouped.names) == 7 == classifier.weights.shape[1]
    assert len(grouped) == len(pool) and set(grouped.labels) == set(range(7))
    for label in range(len(pool.names)):  # a label is in one group
        assert len(set(grouped.labels[pool.labels == label])) == 1
    assert all(name.split(" and ")[0] in pool.names for name in grouped.names)


def test_two_labels_are_enough(pool):
    two = draw_pool(100, SPEC, rng=np.random.default_rng(0))
    keep = two.labels < 2
    small = type(two)("two", two.images[keep], two.labels[keep], two.names[:2])
    _, classifier = fit_classifier(small, extractor="pixels", progress=silent)
    assert classifier.top(small.images, 2, silent).shape == (10, 2)


def test_a_classifier_reads_back(fitted, tmp_path, pool):
    fitted[1].save(tmp_path / "classifier.npz")
    again = LabelClassifier.load(tmp_path / "classifier.npz")
    images = pool.images[:50]
    assert np.array_equal(again.top(images, 2, silent), fitted[1].top(images, 2, silent))


COUNTS = np.array(
    [
        [90.0, 10, 0, 0, 5, 0],
        [0, 0, 50, 40, 5, 0],
        [1, 2, 0, 3, 5, 200],
    ]
)


def test_cells_ask_for_labels_in_turn_and_noise_comes_last():
    assert label_order(COUNTS, noise_std=1.0) == [5, 0, 2, 3, 1, 4]
    # With more noise only three counts are signal, one for each cell.
    assert label_order(COUNTS, noise_std=22.0)[:3] == [5, 0, 2]
    assert sorted(label_order(COUNTS, noise_std=1e9)) == list(range(6))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.37, 1.0])
def test_the_selection_is_the_share_asked_for(share):
    labels = np.repeat(np.arange(6), [10, 20, 30, 40, 50, 50])
    chosen = select_images(COUNTS, labels, share=share, noise_std=1.0, rng=np.random.default_rng(0))
    assert len(chosen) == round(share * 200) == len(set(chosen.tolist()))
    wanted = label_order(COUNTS, noise_std=1.0)
    taken = set(labels[chosen].tolist())
    assert taken == set(wanted[: len(taken)])
    if share == 0.2:  # of label 5's fifty pictures forty
        assert taken == {5}


def test_soft_records_are_distributions_and_noise_is_no_correlation():
    rng, noise = np.random.default_rng(0), 20.0
    one_way = np.array([0.5, 0.5, 0.2, 0.3, 0.5, 0.9, 0.1])
    # Label 0 belongs to cell 0 of the first attribute, label 1 to nobody.
    true = np.zeros((7, 2))
    true[:, 0] = 1000 * np.array([1, 0, 0.2, 0.3, 0.5, 0.9, 0.1])
    soft = records_of_labels(true + rng.normal(0, noise, true.shape), SIZES, one_way,
                             noise_std=noise)  # fmt: skip
    assert soft.shape == (2, 7)
    for block in np.split(soft, [2, 5], axis=1):
        assert np.allclose(block.sum(1), 1) and (block >= 0).all()
    assert soft[0, 0] > 0.95 and np.allclose(soft[0, 2:], one_way[2:], atol=0.06)
    assert np.allclose(soft[1], one_way, atol=0.25)


def test_drawn_records_have_the_labels_marginals_and_the_tables_ties():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 8000)
    tied = np.where(rng.random(8000) < 0.9, first, 1 - first)  # the second follows the first
    candidates = np.stack([first, tied, rng.integers(0, 3, 8000)], axis=1).astype(np.int16)
    soft = np.array([[0.8, 0.2, 0.6, 0.4, 0.1, 0.2, 0.7], [0.1, 0.9, 0.5, 0.5, 1, 0, 0]])
    labels = np.repeat([0, 1], 4000)
    drawn = draw_records(soft, labels, candidates, (2, 2, 3), rng=rng)
    for label in (0, 1):
        rows = drawn[labels == label]
        for i, block in enumerate(np.split(soft[label], [2, 4])):
            share = np.bincount(rows[:, i], minlength=len(block)) / len(rows)
            assert np.allclose(share, block, atol=0.04)
    # The odds ratio of two attributes is untouched by raking: (.9 / .1)^2 = 81 in the table.
    table = np.histogram2d(*drawn[labels == 0, :2].T, bins=(2, 2))[0]
    odds = table[0, 0] * table[1, 1] / (table[0, 1] * table[1, 0])
    assert 40 < odds < 160
