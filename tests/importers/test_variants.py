"""Editions of known archives, in which people really have them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dagster_project.cli import main as cli
from dagster_project.data.schema import Schema
from tests.importers import archives
from tests.importers.archives import pixels, save

N = 20


def bring(kind: str, source: Path, out: Path, *more: str) -> pd.DataFrame:
    command = ["import", kind, str(source), str(out), "--n-public", "30", *more]
    assert cli.main(command) == 0
    return pd.concat(pd.read_parquet(file) for file in sorted(out.glob("*.parquet")))


def test_kaggles_celeba_is_a_csv_file_and_a_nested_folder(tmp_path):
    root = tmp_path / "celeba"
    lines = ["image_id,Male,Smiling,Young"]
    for i in range(1, N + 1):
        name = f"{i:06d}.jpg"
        save(root / "img_align_celeba" / "img_align_celeba" / name, pixels(i, 30, 30))
        lines.append(f"{name},{1 if i % 2 else -1}, 1,-1")
    (root / "list_attr_celeba.csv").write_text("\n".join(lines) + "\n")
    rows = bring("celeba", root, tmp_path / "data", "--validation", "train")
    assert len(rows) == N
    assert Schema.from_file(tmp_path / "data" / "schema.yaml").names == ("Male", "Smiling", "Young")
    odd = rows["person"].str[:6].astype(int) % 2 == 1
    assert ((rows["Male"] == "yes") == odd).all() and set(rows["Smiling"]) == {"yes"}


@pytest.mark.parametrize("place", ["", "sample/"])
def test_kaggles_sample_of_the_nih(tmp_path, place):
    whole = archives.chestxray14(tmp_path / "whole", N)
    root = tmp_path / "kaggle"
    (root / "sample" / "images").mkdir(parents=True)
    for picture in whole.glob("images_*/images/*.png"):
        picture.rename(root / "sample" / "images" / picture.name)
    (whole / "Data_Entry_2017.csv").rename(root / f"{place}sample_labels.csv")
    rows = bring("chestxray14", root, tmp_path / "data", "--validation", "train")
    assert len(rows) == N and rows["person"].nunique() == N // 2
    command = ["import", "chestxray14", str(root), str(tmp_path / "documented")]
    assert cli.main(command) == 0
    schema = Schema.from_file(tmp_path / "documented" / "schema.yaml")
    assert schema.n_public == 3000  # 70 % of 4,230 patients


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("TRAIN", "Test")])
def test_parts_in_any_case_keep_the_classes(tmp_path, capsys, train, test):
    root = tmp_path / "brain"
    for i in range(N):
        part = test if i % 4 == 0 else train
        save(root / part / ("glioma", "none")[i % 2] / f"{i}.JPG".lower(), pixels(i, 30, 30))
    for picture in (root / train / "glioma").iterdir():
        picture.rename(picture.with_suffix(".JPG"))
    (root / "readme.txt").write_text("about")
    (root / ".DS_Store").write_text("hidden")
    (root / train / "glioma" / "notes.txt").write_text("no picture")
    save(root / train / "loose.png", pixels(1, 30, 30))
    save(root / test / "unknown" / "x.png", pixels(1, 30, 30))
    (root / "linked").symlink_to(root / train)
    rows = bring("imagefolder", root, tmp_path / "data")
    assert len(rows) == N
    assert len(pd.read_parquet(tmp_path / "data" / "heldout.parquet")) == N // 4
    assert Schema.from_file(tmp_path / "data" / "schema.yaml").attributes[0].categories == (
        "glioma",
        "none",
    )
    told = capsys.readouterr().out
    for left_out in (
        "2 left out: file outside the folders of the classes",
        "1 left out: file in a folder that is none of the classes",
        "1 left out: symbolic link",
        "1 left out: image not a readable",
    ):
        assert left_out in told


def test_columns_of_a_hugging_face_file_can_be_declared(tmp_path):
    source = archives.huggingface_parquet(tmp_path / "source", N)
    domains = ["--categories", "source=person 0,person 1", "--edges", "label=0,0.5,1"]
    rows = bring("huggingface", source, tmp_path / "data", "--unit", "image", *domains)
    schema = Schema.from_file(tmp_path / "data" / "schema.yaml")
    assert set(schema.names) == {"label", "outdoor", "source"}
    assert schema.attributes[schema.names.index("label")].kind == "numeric"
    assert {"train/0.png", "heldout/20.png"} <= set(rows["person"])
    assert set(rows["label"]) == {0.0, 1.0} and "person 1" in set(rows["source"])


def test_rows_are_numbered_only_if_that_is_declared(tmp_path, capsys):
    source = archives.huggingface_arrow(tmp_path / "source", N)
    command = ["import", "huggingface", str(source), str(tmp_path / "data"), "--n-public", "30"]
    assert cli.main(command) == 2
    assert "--person-id COLUMN" in capsys.readouterr().err
    assert cli.main([*command, "--by-position"]) == 0
    assert "a row that moves is another" in " ".join(
        (tmp_path / "data" / "schema.yaml").read_text().replace("\n# ", " ").split()
    )
