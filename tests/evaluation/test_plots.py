"""Image grids and bars."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from dagster_project.data.pairs import Pairs
from dagster_project.data.schema import Schema
from dagster_project.evaluation.plots import (
    data_uri,
    grid_by_attribute,
    image_grid,
    marginal_bars,
    png_bytes,
    rows_by_attribute,
)


def test_grid_holds_every_image_in_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(5, 1, 4, 6), dtype=np.uint8)
    grid = np.asarray(image_grid(images, 3, scale=2))
    assert grid.shape == ((4 * 2 + 1) * 2, (6 * 3 + 2) * 2, 3)
    assert np.array_equal(grid[10:18:2, 14:26:2, 1], images[4, 0])
    assert (grid[10:, 28:] == 255).all()  # the empty sixth place


def test_small_images_are_enlarged_and_colour_is_kept() -> None:
    images = np.zeros((1, 3, 28, 28), dtype=np.uint8)
    images[:, 2] = 200
    grid = image_grid(images, 1)
    assert grid.size == (56, 56)
    assert grid.getpixel((30, 30)) == (0, 0, 200)
    assert image_grid(images[:0], 4).size[1] == 56


def test_rows_by_attribute(schema: Schema, make_pairs: Callable[[int, int], Pairs]) -> None:
    pairs = make_pairs(60, 0)
    rows = rows_by_attribute(pairs.codes, schema, "light", 4)
    assert [label for label, _ in rows] == [*schema.attributes[1].labels]
    for j, (_, found) in enumerate(rows):
        assert (pairs.codes[found, 1] == j).all()
        assert len(found) <= 4
    sheet = grid_by_attribute(pairs.images, pairs.codes, schema, "colour", columns=4)
    assert sheet.height == 3 * (4 * 16) + 2 * 4


def test_png(schema: Schema, make_pairs: Callable[[int, int], Pairs]) -> None:
    codes = make_pairs(60, 0).codes
    png = marginal_bars(schema, {"real": codes, "synthetic": codes[:20]})
    assert Image.open(io.BytesIO(png)).width > 400
    one = png_bytes(Image.new("RGB", (3, 2)))
    prefix, _, body = data_uri(one).partition(",")
    assert prefix == "data:image/png;base64"
    assert base64.b64decode(body) == one
