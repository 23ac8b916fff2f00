"""The letters example, on the fonts that Matplotlib brings along."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest

from dagster_project.data.check import check
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import Schema
from dagster_project.example import glyphs

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def fonts():
    return {font.name: font for font in glyphs.usable_fonts(FONTS)}


def test_build_is_deterministic_and_no_font_is_on_both_sides(tmp_path):
    for name in ("a", "b"):
        used = glyphs.build(FONTS, tmp_path / name, train=60, heldout=20)
        assert sum(used) >= glyphs.MIN_FONTS
    for file in ("train.parquet", "heldout.parquet", "schema.yaml"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    schema = Schema.from_file(tmp_path / "a" / "schema.yaml")
    assert schema.public and len(schema.attributes) == 8
    assert [f for f in check(tmp_path / "a", tmp_path / "a" / "schema.yaml") if f.row] == []
    train, held_out, counts = read_pairs(tmp_path / "a", schema, heldout_key=None)
    assert (len(train), len(held_out), counts.reasons) == (60, 20, {})
    tables = [pd.read_parquet(tmp_path / "a" / f"{part}.parquet") for part in ("train", "heldout")]
    names = [set(table["person"].str.split("#").str[0]) for table in tables]
    assert [len(part) for part in names] == list(used)
    assert not names[0] & names[1]
    assert len(set(tables[0]["person"])) == len(set(tables[0]["image"])) == 60
    assert (tables[0]["letter"].str.isupper() == (tables[0]["case"] == "upper")).all()


def test_symbols_and_fonts_without_letters_are_left_out(fonts):
    assert not [name for name in fonts if name.startswith(("cmex", "cmsy", "STIXSiz", "LastRes"))]
    assert all(set(font.glyphs) == set(glyphs.LETTERS) for font in fonts.values())


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("DejaVuSans", ("regular", "upright", "sans")),
        ("DejaVuSansMono-BoldOblique", ("bold", "italic", "sans")),
        ("DejaVuSerif-Bold", ("bold", "upright", "serif")),
        ("STIXGeneralItalic", ("regular", "italic", "serif")),
    ],
)
def test_style_of_known_fonts(fonts, name, style):
    assert tuple(fonts[f"{name}.ttf"].record.values()) == style


def test_measures_mean_what_they_say():
    image = np.zeros((28, 28), np.uint8)
    assert glyphs.measure(image) == {"ink": 0, "width": 0, "brightness": 0}
    image[7:21, 3:17] = 204
    assert glyphs.measure(image) == {"ink": 0.25, "width": 0.5, "brightness": 0.8}


def test_equal_drawings_and_damaged_files_are_no_further_fonts(tmp_path):
    content = (FONTS / "DejaVuSans.ttf").read_bytes()
    for name, data in (("one", content), ("twin", content), ("broken", b"no font")):
        (tmp_path / f"{name}.ttf").write_bytes(data)
    assert [font.name for font in glyphs.usable_fonts(tmp_path)] == ["one.ttf"]


def test_too_few_fonts_are_one_sentence_that_names_packages(tmp_path, monkeypatch, capsys):
    arguments = ["glyphs", str(tmp_path / "out"), "--fonts", str(tmp_path / "none")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        glyphs.main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "fonts-dejavu" in message
    assert not (tmp_path / "out").exists()
