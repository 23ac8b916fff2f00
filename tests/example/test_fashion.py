"""The example's build, on small synthetic IDX files."""

import gzip
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dagster_project.data.check import check
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import Schema
from dagster_project.example import fashion


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for stem, n in (("train", 60), ("t10k", 20)):
        images = np.zeros((n, 28, 28), np.uint8)
        for i, image in enumerate(images):
            h, w = rng.integers(6, 28, 2)
            image[:h, :w] = rng.integers(30, 255, (h, w)) if i else 0
        labels = (np.arange(n) % 10).astype(np.uint8)
        name = folder / f"{stem}-images-idx3-ubyte"
        if stem == "train":
            name.with_name(name.name + ".gz").write_bytes(gzip.compress(idx(images)))
        else:
            name.write_bytes(idx(images))
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_build_is_deterministic_and_fits_its_schema(tmp_path, source):
    for name in ("a", "b"):
        fashion.build(source, tmp_path / name, train=50, heldout=15)
    for file in ("train.parquet", "heldout.parquet", "schema.yaml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    schema = Schema.from_file(tmp_path / "a" / "schema.yaml")
    assert schema == Schema.from_dict(fashion.SCHEMA)
    assert schema.public and len(schema.attributes) >= 8
    assert sum(a.kind == "numeric" for a in schema.attributes) >= 2
    assert [f for f in check(tmp_path / "a", tmp_path / "a" / "schema.yaml") if f.row] == []
    train, held_out, counts = read_pairs(tmp_path / "a", schema, heldout_key=None)
    assert (len(train), len(held_out), counts.reasons) == (50, 15, {})


def test_images_survive_and_departments_follow_categories(tmp_path, source):
    fashion.build(source, tmp_path / "out", train=60, heldout=20)
    images = fashion.read_idx(source, "train-images-idx3-ubyte", axes=3)
    table = pd.read_parquet(tmp_path / "out" / "train.parquet")
    assert table["item_id"].is_unique
    for i in (1, 59):
        np.testing.assert_array_equal(Image.open(io.BytesIO(table["image"][i])), images[i])
    assert set(zip(table["category"], table["department"], strict=True)) == set(fashion.CATEGORIES)


def test_measures_mean_what_they_say():
    blank = np.zeros((28, 28), np.uint8)
    block, tall, left, stripes, dark = (blank.copy() for _ in range(5))
    block[7:21, 7:21] = 204
    tall[:, 11:17] = 204
    left[7:21, :14] = 204
    stripes[7:21, 7:21:2] = 204
    stripes[7:21, 8:21:2] = 51
    dark[7:21, 7:21] = 51
    found = fashion.measure(np.stack([blank, block, tall, left, stripes, dark]))
    assert all(np.isfinite(column).all() for column in found.values())
    np.testing.assert_allclose(found["shade"], [0, 0.8, 0.8, 0.8, 0.5, 0.2])
    np.testing.assert_allclose(found["size"][[0, 1, 2]], [0, 0.25, 6 / 28])
    np.testing.assert_allclose(found["aspect"][[1, 2, 3]], [1, 28 / 6, 1])
    np.testing.assert_allclose(found["contrast"][[1, 4]], [0, 0.3], atol=1e-12)
    np.testing.assert_allclose(found["symmetry"][[1, 3]], [1, 0], atol=1e-12)
    assert found["detail"][0] == 0 < found["detail"][5] < found["detail"][1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train-images-idx3-ubyte.gz", b"no gzip"),
        ("train-labels-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x09short"),
        ("t10k-images-idx3-ubyte", b""),
        ("t10k-labels-idx1-ubyte", None),
    ],
)
def test_wrong_sources_give_one_sentence(tmp_path, source, name, content, monkeypatch, capsys):
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"IDX file|cannot be read|hold fewer"):
        fashion.build(source, tmp_path / "out", train=50, heldout=15)
    arguments = ["fashion", "--source", str(source), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        fashion.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
