"""A small set of RGB pairs in which the picture follows the record."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dagster_project.data.pairs import Pairs
from dagster_project.data.schema import Schema

SCHEMA = {
    "name": "lamps",
    "public": True,
    "person_id": "id",
    "n_public": 1000,
    "image": {"column": "image", "channels": 3, "height": 16, "width": 12},
    "attributes": {
        "colour": {"kind": "categorical", "categories": ["red", "<b>green</b>", "blue"]},
        "light": {
            "kind": "numeric",
            "edges": [0, 25, 50, 100],
            "missing": True,
            "out_of_domain": "missing",
        },
    },
}


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema.from_dict(SCHEMA)


@pytest.fixture(scope="session")
def make_pairs() -> Callable[[int, int], Pairs]:
    """Builds `n` pairs: the channel that shines is the colour, its height the light."""

    def make(n: int, seed: int) -> Pairs:
        rng = np.random.default_rng(seed)
        colour = rng.integers(3, size=n)
        light = rng.uniform(0, 100, size=n).astype(np.float32)
        bins = np.digitize(light, [25, 50])
        absent = rng.random(n) < 0.1
        lit = np.arange(16)[None, :] < 16 * light[:, None] / 100
        images = rng.integers(0, 60, size=(n, 3, 16, 12))
        images[np.arange(n), colour] += (150 * lit)[:, :, None]
        codes = np.stack([colour, np.where(absent, 3, bins)], axis=1).astype(np.int16)
        values = np.stack([colour, np.where(absent, np.nan, light)], axis=1).astype(np.float32)
        return Pairs(images.astype(np.uint8), codes, values)

    return make
