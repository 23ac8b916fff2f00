"""Archives become data folders that `check` accepts; wrong ones are refused in one sentence."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dagster_project.cli import main as cli
from dagster_project.data.check import check
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import Schema
from dagster_project.importers import writing
from dagster_project.importers.archive import part_of
from dagster_project.importers.chestxray14 import years
from tests.importers import archives
from tests.importers.archives import ARCHIVES


def bring(kind: str, source: Path, out: Path, *more: str) -> int:
    name, _, told = ARCHIVES[kind]
    return cli.main(["import", name, str(source), str(out), *told, *more])


def made(kind: str, root: Path, *more: str) -> tuple[Path, Schema]:
    """The data folder of an archive drawn in `root`."""
    source = ARCHIVES[kind][1](root / "source")
    assert bring(kind, source, root / "data", "--n-public", "60", *more) == 0
    return root / "data", Schema.from_file(root / "data" / "schema.yaml")


SIZES = {
    "celeba": ((3, 40, 40), 26),
    "chestxray14": ((1, 40, 40), 8),
    "deepfashion": ((3, 48, 32), 12),
    "imagefolder": ((3, 32, 32), 1),
    "idx": ((1, 28, 28), 1),
    "arrow": ((3, 32, 32), 2),
    "parquet": ((3, 32, 32), 2),
    "medmnist": ((3, 28, 28), 1),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_becomes_a_data_folder_without_a_fault(kind, tmp_path):
    data, schema = made(kind, tmp_path)
    shape, attributes = SIZES[kind]
    image = schema.image
    assert (image.channels, image.height, image.width) == shape
    assert len(schema.attributes) == attributes
    assert not schema.public and schema.n_public == 60
    # Patients with two X-rays, and the NIH's ages that are slips, follow the policy.
    usual = ("is in rows", "age 414.0 is outside the domain; it becomes '[80, 100]'")
    faults = [str(fault) for fault in check(data, data / "schema.yaml")]
    assert [fault for fault in faults if not any(text in fault for text in usual)] == []
    assert bool(faults) == (kind == "chestxray14")
    train, held_out, _ = read_pairs(data, schema, heldout_key=None)
    assert len(train) > 20 and len(held_out) > 4
    assert train.images.shape[1:] == shape
    assert sorted(p.name for p in data.iterdir()) == [
        "heldout.parquet",
        "schema.yaml",
        "train.parquet",
    ]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_images_stay_with_their_records(tmp_path):
    """The fixtures' upper half is bright where the label is odd."""
    label = {"celeba": "Male", "idx": "label", "arrow": "label", "medmnist": "label"}
    bright = {"celeba": "yes", "idx": "one", "arrow": "dog", "medmnist": "malignant"}
    for kind in label:
        data, schema = made(kind, tmp_path / kind)
        train, held_out, _ = read_pairs(data, schema, heldout_key=None)
        column = schema.names.index(label[kind])
        code = schema.attributes[column].categories.index(bright[kind])
        for pairs in (train, held_out):
            upper = pairs.images[:, :, : schema.image.height // 3].mean(axis=(1, 2, 3))
            np.testing.assert_array_equal(upper > 140, pairs.codes[:, column] == code)


def test_public_data_counts_its_people_and_shows_its_labels(tmp_path):
    source = archives.idx(tmp_path / "source")
    assert cli.main(["import", "idx", str(source), str(tmp_path / "data"), "--public"]) == 0
    schema = Schema.from_file(tmp_path / "data" / "schema.yaml")
    assert schema.public and schema.n_public == archives.PAIRS
    assert schema.attributes[0].categories == ("0", "1")


def test_documented_numbers_stand_in_for_a_count(tmp_path):
    source = archives.celeba(tmp_path / "source")
    assert bring("celeba", source, tmp_path / "data") == 0
    schema = Schema.from_file(tmp_path / "data" / "schema.yaml")
    assert (schema.name, schema.n_public) == ("celeba", 141_800)
    text = (tmp_path / "data" / "schema.yaml").read_text()
    assert text.startswith("# CelebA") and "&" not in text


@pytest.mark.parametrize("kind", ["celeba", "chestxray14", "deepfashion"])
def test_nobody_is_in_two_parts(kind, tmp_path):
    data, _ = made(kind, tmp_path, "--unit", "person", "--validation", "train")
    people = [
        set(pd.read_parquet(data / f)["person"]) for f in ("train.parquet", "heldout.parquet")
    ]
    assert not people[0] & people[1]
    images = sum(len(pd.read_parquet(data / f)) for f in ("train.parquet", "heldout.parquet"))
    assert images == archives.PAIRS * (2 if kind == "chestxray14" else 1)
    assert len(people[0] | people[1]) < images


def test_split_is_seven_to_one_to_two():
    parts = [part_of(str(i)) for i in range(20_000)]
    shares = [parts.count(part) / len(parts) for part in ("train", "validation", "heldout")]
    np.testing.assert_allclose(shares, (0.7, 0.1, 0.2), atol=0.012)


def test_validation_goes_where_it_is_sent(tmp_path):
    rows = {}
    for fate in ("drop", "train", "heldout"):
        data, _ = made("medmnist", tmp_path / fate, "--validation", fate)
        rows[fate] = [len(pd.read_parquet(data / f"{f}.parquet")) for f in ("train", "heldout")]
    assert rows == {"drop": [60, 15], "train": [70, 15], "heldout": [60, 25]}


def test_broken_images_are_counted_and_end_nothing(tmp_path, capsys):
    source = archives.celeba(tmp_path / "source")
    images = source / "Img" / "img_align_celeba"
    (images / "000001.jpg").unlink()
    (images / "000002.jpg").write_bytes(b"no picture")
    (images / "000003.jpg").unlink()
    (images / "000003.jpg").symlink_to(images / "000004.jpg")
    listed = source / "Anno" / "list_attr_celeba.txt"
    listed.write_text(listed.read_text() + "000005.jpg 1 -1\n")
    assert bring("celeba", source, tmp_path / "data", "--validation", "train") == 0
    out = capsys.readouterr()
    assert out.err.startswith("PRIVATE")
    for reason in ("missing", "not a readable PNG", "symbolic link"):
        assert f"1 left out: image {reason}" in out.out
    assert "1 left out: line with a wrong number of fields" in out.out
    faults = check(tmp_path / "data", tmp_path / "data" / "schema.yaml")
    assert not any(fault.stops for fault in faults)


def test_threads_change_nothing(tmp_path):
    one, _ = made("deepfashion", tmp_path / "one")
    four, _ = made("deepfashion", tmp_path / "four", "--workers", "4")
    for file in ("train.parquet", "heldout.parquet"):
        assert (one / file).read_bytes() == (four / file).read_bytes()


def test_batches_bound_what_is_held(tmp_path, monkeypatch):
    """Batches that are written before the next one is read give the same rows."""
    monkeypatch.setattr(writing, "BATCH", 7)
    data, _ = made("celeba", tmp_path)
    monkeypatch.undo()
    whole, _ = made("celeba", tmp_path / "whole")
    for file in ("train.parquet", "heldout.parquet"):
        pd.testing.assert_frame_equal(*(pd.read_parquet(d / file) for d in (data, whole)))


def test_attributes_can_be_chosen(tmp_path):
    _, schema = made("deepfashion", tmp_path, "--attributes", "hat,denim,floral", "--size", "16x12")
    assert schema.names == ("hat", "denim", "floral")
    assert (schema.image.height, schema.image.width) == (16, 12)


def test_several_findings_become_an_attribute_each(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 255, (30, 28, 28), dtype=np.uint8),
        "train_labels": rng.integers(0, 2, (30, 3)),
    }
    np.savez(tmp_path / "chest.npz", **arrays)
    out = tmp_path / "data"
    command = ["import", "medmnist", str(tmp_path / "chest.npz"), str(out), "--n-public", "30"]
    assert cli.main([*command, "--classes", "mass,nodule,edema"]) == 0
    table = pd.read_parquet(out / "records.parquet")
    np.testing.assert_array_equal(
        (table[["mass", "nodule", "edema"]] == "yes").to_numpy(), arrays["train_labels"] == 1
    )
    first = np.asarray(Image.open(io.BytesIO(table["image"][0])))
    np.testing.assert_array_equal(first, arrays["train_images"][0])


def test_the_person_can_be_named(tmp_path):
    data, _ = made("imagefolder", tmp_path / "folder", "--person-id", "(p[0-9]+)_")
    assert set(pd.read_parquet(data / "train.parquet")["person"]) == {f"p{i}" for i in range(15)}
    data, _ = made("arrow", tmp_path / "arrow", "--person-id", "source", "--label-name", "outdoor")
    table = pd.read_parquet(data / "train.parquet")
    assert len(set(table["person"])) == 30
    assert list(table.columns) == ["person", "image", "outdoor"]


def test_classes_name_a_column_that_declares_none(tmp_path):
    told = ["--label-name", "source", "--classes", "person 0,person 1,person 2"]
    data, schema = made("parquet", tmp_path, *told)
    assert schema.attributes[0].categories == ("person 0", "person 1", "person 2")
    assert pd.read_parquet(data / "train.parquet")["source"][3] == "person 1"


def test_ages():
    assert [years(text) for text in ("058Y", "006M", "58", "", "?")] == [58, 0.5, 58, None, None]


def remove(path: str):
    def change(source: Path) -> None:
        found = source / path
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return change


def overwrite(path: str, content: bytes):
    return lambda source: (source / path).write_bytes(content)


def no_class(source: Path) -> None:
    shutil.rmtree(source / "train" / "dog")


def volumes(source: Path) -> None:
    np.savez(
        source / "pathmnist.npz",
        train_images=np.zeros((2, 28, 28, 28), np.uint8),
        train_labels=np.zeros((2, 1), np.uint8),
    )


@pytest.mark.parametrize(
    ("kind", "damage", "words"),
    [
        ("celeba", remove("Anno/list_attr_celeba.txt"), "list_attr_celeba.txt"),
        ("celeba", remove("Img"), "img_align_celeba"),
        ("celeba", overwrite("Anno/list_attr_celeba.txt", b"a,b\n"), "names of the 40 attributes"),
        ("chestxray14", remove("Data_Entry_2017.csv"), "Data_Entry_2017.csv"),
        ("chestxray14", overwrite("Data_Entry_2017.csv", b"a,b\n"), "'Image Index'"),
        ("deepfashion", remove("images"), "images"),
        ("deepfashion", remove("labels/shape/shape_anno_all.txt"), "labels/shape/shape_anno_all"),
        ("deepfashion", overwrite("labels/shape/shape_anno_all.txt", b"a b c"), "12 whole numbers"),
        ("imagefolder", no_class, "one for each class"),
        ("idx", remove("train-images-idx3-ubyte.gz"), "train-images-idx3-ubyte"),
        ("idx", remove("t10k-labels-idx1-ubyte"), "t10k-labels-idx1-ubyte"),
        ("idx", overwrite("train-images-idx3-ubyte.gz", b"no gzip"), "not an IDX file"),
        ("idx", overwrite("t10k-images-idx3-ubyte", b"\0\0\x08\x03\0"), "not an IDX file"),
        ("arrow", overwrite("train/data-00000-of-00001.arrow", b"none"), "cannot be read"),
        ("parquet", remove("data"), "were expected in"),
        ("parquet", overwrite("data/train-00000-of-00002.parquet", b"none"), "cannot be read"),
        ("medmnist", overwrite("pathmnist.npz", b"none"), "not an .npz file"),
        ("medmnist", remove("pathmnist.npz"), "one .npz file was expected"),
        ("medmnist", volumes, "volumes"),
    ],
)
def test_a_wrong_archive_is_refused_in_one_sentence(kind, damage, words, tmp_path, capsys):
    source = ARCHIVES[kind][1](tmp_path / "source")
    damage(source)
    refused(capsys, tmp_path, words, lambda out: bring(kind, source, out, "--n-public", "60"))


def refused(capsys, root: Path, words: str, command) -> None:
    before = sorted(root.iterdir())
    assert command(root / "data") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("dptabimage: ") and words in lines[0], lines
    assert sorted(root.iterdir()) == before


def test_an_archive_of_another_kind_is_refused(tmp_path, capsys):
    source = archives.idx(tmp_path / "source")
    for kind in ARCHIVES:
        if kind != "idx":
            refused(capsys, tmp_path, "", lambda out, k=kind: bring(k, source, out, "--public"))


def test_a_source_that_is_not_there_is_refused(tmp_path, capsys):
    for kind in ARCHIVES:
        command = lambda out, k=kind: bring(k, tmp_path / "nowhere", out, "--public")  # noqa: E731
        refused(capsys, tmp_path, "nowhere", command)


def test_an_archive_without_a_usable_image_is_refused(tmp_path, capsys):
    source = archives.celeba(tmp_path / "source")
    for image in (source / "Img" / "img_align_celeba").iterdir():
        image.write_bytes(b"")
    refused(capsys, tmp_path, "no pair to train on", lambda out: bring("celeba", source, out))


def test_what_private_data_may_not_tell_is_asked_for(tmp_path, capsys):
    source = archives.idx(tmp_path / "source")
    command = ["import", "idx", str(source)]
    refused(
        capsys, tmp_path, "--classes", lambda o: cli.main([*command, str(o), "--n-public", "9"])
    )
    more = ["--classes", "a,b"]
    refused(capsys, tmp_path, "--n-public", lambda o: cli.main([*command, str(o), *more]))


def test_a_taken_destination_is_left_alone(tmp_path, capsys):
    source = archives.idx(tmp_path / "source")
    out = tmp_path / "data"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    refused(capsys, tmp_path, "not empty", lambda o: bring("idx", source, o, "--public"))
    assert (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    assert bring("idx", source, out, "--public") == 0  # an empty folder will do


def test_an_archive_that_breaks_off_leaves_nothing(tmp_path, capsys):
    source = archives.idx(tmp_path / "source")
    file = source / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-5])
    refused(capsys, tmp_path, "ends too early", lambda o: bring("idx", source, o, "--public"))


@pytest.mark.parametrize("text", ["7", "65", "40x", "x", "40x400"])
def test_sizes_out_of_bounds_are_refused(text, tmp_path):
    with pytest.raises(SystemExit) as caught:
        bring("idx", tmp_path, tmp_path / "data", "--size", text)
    assert caught.value.code == 2
