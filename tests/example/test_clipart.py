"""The clip art example, on drawings made here."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dagster_project.data.check import check
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import Schema
from dagster_project.example import clipart


def drawing(colour, box, size=(60, 40)):
    """Transparent but for a filled box (left, top, right, bottom)."""
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*colour, 255)
    return Image.fromarray(pixels)


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(40):
        folder = tmp_path / "png" / ("animals", "computer/deep", "logos")[i % 3]
        folder.mkdir(parents=True, exist_ok=True)
        left, top = rng.integers(0, 20, 2)
        box = (left, top, left + int(rng.integers(4, 35)), top + int(rng.integers(4, 20)))
        drawing(rng.integers(0, 220, 3), box).save(folder / f"{i}.png")
    drawing((0, 0, 0), (0, 0, 0, 0)).save(tmp_path / "png" / "empty.png")
    (tmp_path / "png" / "broken.png").write_bytes(b"no picture")
    twin = (tmp_path / "png" / "animals" / "0.png").read_bytes()
    (tmp_path / "png" / "animals" / "twin.png").write_bytes(twin)
    return tmp_path / "png"


def test_build_is_deterministic_and_fits_its_schema(tmp_path, source):
    for name in ("a", "b"):
        assert clipart.build(source, tmp_path / name, train=30) == (30, 10)
    for file in ("train.parquet", "heldout.parquet", "schema.yaml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    schema = Schema.from_file(tmp_path / "a" / "schema.yaml")
    assert schema.public and len(schema.attributes) == 6
    assert [f for f in check(tmp_path / "a", tmp_path / "a" / "schema.yaml") if f.row] == []
    train, held_out, counts = read_pairs(tmp_path / "a", schema, heldout_key=None)
    assert (len(train), len(held_out), counts.reasons) == (30, 10, {})
    table = pd.read_parquet(tmp_path / "a" / "train.parquet")
    assert set(table["group"]) == {"animals", "computer", "other"}
    assert len(set(table["image"])) == 30


def test_measures_mean_what_they_say():
    white = np.full((32, 32, 3), 255, np.uint8)
    colours = {"red": (200, 0, 0), "yellow": (230, 180, 0), "green": (0, 160, 0)}
    colours |= {"blue": (0, 0, 255), "grey": (90, 90, 90)}
    images = []
    for colour in colours.values():
        image = white.copy()
        image[8:24, 8:24] = colour
        images.append(image)
    tall, wide = white.copy(), white.copy()
    tall[:, 12:20] = wide[12:20] = 0
    found = clipart.measure(np.stack([*images, tall, wide, white]))
    assert found["colour"] == [*colours, "grey", "grey", "grey"]
    assert found["shape"] == ["square"] * 5 + ["tall", "wide", "square"]
    assert found["coverage"] == [0.25] * 7 + [0]
    assert found["vividness"][:5] == ["high"] * 4 + ["none"]
    np.testing.assert_allclose(found["brightness"][3:6], [1 / 3, 90 / 255, 0], atol=1e-4)


def test_too_few_drawings_are_one_sentence(tmp_path, source, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["clipart", str(tmp_path / "out"), "--source", str(source)])
    with pytest.raises(SystemExit) as caught:
        clipart.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
