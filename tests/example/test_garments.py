"""The pool of other garments, on small synthetic IDX files."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dagster_project.data.schema import Schema
from dagster_project.example import fashion, garments
from dagster_project.public_data.pool import read_folder


@pytest.fixture
def source(tmp_path):
    """200 pictures, all different, and ten of test."""
    folder = tmp_path / "source"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for stem, n in (("train", 200), ("t10k", 10)):
        images = rng.integers(20, 255, (n, 28, 28)).astype(np.uint8)
        images[: n // 2] //= 3
        labels = (np.arange(n) // 2 % 10).astype(np.uint8)
        for kind, array in (("images", images), ("labels", labels)):
            header = bytes((0, 0, 8, array.ndim))
            header += b"".join(side.to_bytes(4, "big") for side in array.shape)
            name = f"{stem}-{kind}-idx{array.ndim}-ubyte"
            (folder / name).write_bytes(header + array.tobytes())
    return folder


def test_the_pool_is_labelled_the_same_each_time_and_none_of_the_catalogue(tmp_path, source):
    fashion.build(source, tmp_path / "data", train=100, heldout=5)
    for name in ("a", "b"):
        assert garments.build(source, tmp_path / name, count=25, catalogue=100) == 25
    files = {path.relative_to(tmp_path / "a"): path for path in (tmp_path / "a").rglob("*.png")}
    assert len(files) == 25
    for name, path in files.items():
        assert path.read_bytes() == (tmp_path / "b" / name).read_bytes()
    kinds = [name.parts[0] for name in files]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dict.fromkeys(garments.KINDS, 5)

    catalogue = pd.read_parquet(tmp_path / "data" / "train.parquet")["image"]
    known = {np.asarray(Image.open(io.BytesIO(content))).tobytes() for content in catalogue}
    pool = read_folder(
        tmp_path / "a",
        Schema.from_dict(fashion.SCHEMA).image,
        smallest=1,
        progress=lambda fraction, text: None,
    )
    assert len(pool) == 25
    assert not known & {image.tobytes() for image in pool.images}
    assert all(label.split("/")[1] in fashion.LEVELS for label in pool.names)


def test_too_few_images_are_refused(tmp_path, source):
    with pytest.raises(ValueError, match="pullover are left"):
        garments.build(source, tmp_path / "a", count=200, catalogue=100)
