"""Procedural pictures: in range, one set for a seed, smooth regions with edges."""

import numpy as np
import pytest

from dagster_project.image.procedural import dead_leaves


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 40, 33)])
def test_shape_and_range(channels, height, width):
    images = dead_leaves(20, channels, height, width, rng=np.random.default_rng(0))
    assert images.shape == (20, channels, height, width)
    assert images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1


def test_one_seed_gives_one_set():
    first, again, other = (
        dead_leaves(5, 1, 16, 16, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_neighbouring_pixels_are_alike_and_edges_exist():
    images = dead_leaves(200, 1, 28, 28, rng=np.random.default_rng(0))
    step = np.abs(np.diff(images, axis=-1))
    assert np.median(step) < 0.05  # smooth nearly everywhere; independent pixels would give .3
    assert (step.max(axis=(1, 2, 3)) > 0.1).mean() > 0.8
