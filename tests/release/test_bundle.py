"""The bundle's files: what readers see, byte for byte the same, and safe against kills."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dagster_project.data.schema import Schema
from dagster_project.pipeline.fidelity_report import read_bundle
from dagster_project.release.bundle import BundleWriter
from dagster_project.release.features import image_column
from tests.release.samples import (
    CHUNK,
    TOTAL,
    make_chunk,
    make_schema,
    write_bundle,
    write_missing,
)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_pandas_reads_the_pairs_that_were_written(bundle: Path, schema: Schema) -> None:
    pairs = pd.read_parquet(bundle / "data")
    assert list(pairs.columns) == ["image", *schema.names]
    assert len(pairs) == TOTAL
    chunks = [make_chunk(schema, i, n) for i, n in enumerate((10, 10, 5))]
    images = [np.asarray(Image.open(io.BytesIO(item["bytes"]))) for item in pairs["image"]]
    np.testing.assert_array_equal(images, np.concatenate([c[0][:, 0] for c in chunks]))
    codes = np.concatenate([c[1] for c in chunks])
    for i, attribute in enumerate(schema.attributes):
        np.testing.assert_array_equal(attribute.encode(pairs[attribute.name])[0], codes[:, i])
    assert pairs["weight"].isna().sum() == (codes[:, 1] == 3).sum() > 0


def test_colour_survives(tmp_path: Path) -> None:
    image = {"column": "photo", "channels": 3, "height": 9, "width": 8}
    schema = make_schema(image=image)
    writer = BundleWriter(tmp_path, schema, 4, 4)
    write_missing(writer)
    first = pq.read_table(writer.path(0))["image"][0].as_py()
    array = np.asarray(Image.open(io.BytesIO(first["bytes"])))
    np.testing.assert_array_equal(array, make_chunk(schema, 0, 4)[0][0].transpose(1, 2, 0))


def test_image_column_gives_way_to_an_attribute_called_image() -> None:
    attributes = {"image": {"kind": "categorical", "categories": ["x", "y"]}}
    image = {"column": "photo", "channels": 1, "height": 8, "width": 8}
    assert image_column(make_schema(image=image, attributes=attributes)) == "photo"


def test_shards_say_how_datasets_must_decode_them(bundle: Path) -> None:
    for path in sorted((bundle / "data").iterdir()):
        schema = pq.read_schema(path)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert features.pop("image") == {"_type": "Image"}
        assert features == {
            "kind of thing": {"dtype": "string", "_type": "Value"},
            "weight": {"dtype": "float64", "_type": "Value"},
        }
        assert schema.field("image").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})


def test_integers_dates_truths_and_labels_are_released_as_such(tmp_path: Path) -> None:
    attributes = {
        "stay": {"kind": "numeric", "edges": [0, 5, 30], "integer": True, "missing": True},
        "visit": {"kind": "date", "edges": ["2015-01-01", "2020-01-01", "2024-01-01"]},
        "smoker": {"kind": "boolean", "missing": True, "column": "Smoker?"},
        "finding": {"kind": "labels", "labels": ["mass", "effusion"], "none": "none"},
    }
    schema = make_schema(attributes=attributes)
    writer = BundleWriter(tmp_path, schema, 40, 40)
    write_missing(writer)
    table = pq.read_table(writer.path(0))
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    dtypes = {name: entry.get("dtype") for name, entry in features.items()}
    assert dtypes == {
        "image": None, "stay": "int64", "visit": "date32", "Smoker?": "bool", "finding": "string",
    }  # fmt: skip
    assert {str(table.schema.field(name).type) for name in schema.columns} == {
        "int64", "date32[day]", "bool", "string",
    }  # fmt: skip
    assert set(table["finding"].to_pylist()) == {"none", "mass", "effusion", "mass|effusion"}
    codes = make_chunk(schema, 0, 40)[1]
    np.testing.assert_array_equal(read_bundle(tmp_path, schema, most=40).codes, codes)


def test_a_table_with_picture_files_holds_the_same_pairs(
    tmp_path: Path, schema: Schema, manifest: dict[str, Any]
) -> None:
    asked = manifest | {"sampling": {**manifest["sampling"], "format": "csv"}}
    folder = write_bundle(tmp_path / "toy", schema, asked).folder
    table = pd.read_csv(folder / "csv" / "metadata.csv")
    pairs = pd.read_parquet(folder / "data")
    pd.testing.assert_frame_equal(table[list(schema.names)], pairs[list(schema.names)])
    files = [(folder / "csv" / name).read_bytes() for name in table["file_name"]]
    assert files == [cell["bytes"] for cell in pairs["image"]]
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert {f"csv/{name}" for name in table["file_name"]} < set(listed)
    write_bundle(folder, schema, manifest)
    assert not list((folder / "csv").rglob("*.*"))


def test_croissant_describes_every_shard_by_its_hash(bundle: Path, schema: Schema) -> None:
    """The form was also held against mlcroissant 1.1, which is not among the packages here."""
    found = json.loads((bundle / "croissant.json").read_text())
    assert found["conformsTo"] == "http://mlcommons.org/croissant/1.0" and "license" not in found
    listed = json.loads((bundle / "manifest.json").read_text())["files"]
    assert {item["contentUrl"]: item["sha256"] for item in found["distribution"]} == {
        name: entry["sha256"] for name, entry in listed.items() if name.startswith("data/")
    }
    for item, records in zip(found["distribution"], found["recordSet"], strict=True):
        assert {field["source"]["fileObject"]["@id"] for field in records["field"]} == {item["@id"]}
        assert {field["name"]: field["dataType"] for field in records["field"]} == {
            "image": "sc:ImageObject",
            "kind of thing": "sc:Text",
            "weight": "sc:Float",
        }


def test_same_pairs_give_the_same_bytes(
    tmp_path: Path, schema: Schema, manifest: dict[str, Any]
) -> None:
    write_bundle(tmp_path / "a", schema, manifest)
    write_bundle(tmp_path / "b", schema, manifest)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_resumed_bundle_equals_an_uninterrupted_one(
    tmp_path: Path, schema: Schema, manifest: dict[str, Any]
) -> None:
    whole = write_bundle(tmp_path / "whole", schema, manifest).folder
    cut = tmp_path / "cut"
    writer = BundleWriter(cut, schema, TOTAL, CHUNK, parameters={"seed": 7})
    images, codes = make_chunk(schema, 1, 10)
    writer.write_chunk(1, images, codes, np.random.default_rng([7, 1]))
    writer.path(0).write_bytes(writer.path(1).read_bytes()[:-9])  # torn
    (cut / "data" / "left.parquet.tmp").write_bytes(b"half")
    assert writer.missing_chunks() == [0, 2]
    with pytest.raises(ValueError, match="2 of 3 chunks"):
        writer.finish(manifest, "", {})
    write_bundle(cut, schema, manifest)
    assert contents(cut) == contents(whole)


def test_other_parameters_write_every_chunk_again(bundle: Path, schema: Schema) -> None:
    assert BundleWriter(bundle, schema, TOTAL, CHUNK, parameters={"seed": 7}).missing_chunks() == []
    for writer in (
        BundleWriter(bundle, schema, TOTAL, CHUNK, parameters={"seed": 8}),
        BundleWriter(bundle, schema, TOTAL - 1, CHUNK, parameters={"seed": 7}),
        BundleWriter(bundle, make_schema(n_public=7), TOTAL, CHUNK, parameters={"seed": 7}),
    ):
        assert writer.missing_chunks() == [0, 1, 2]


def test_bundle_of_another_size_leaves_nothing_behind(
    bundle: Path, schema: Schema, manifest: dict[str, Any]
) -> None:
    writer = BundleWriter(bundle, schema, 4, 2)
    write_missing(writer)
    assert not (bundle / "manifest.json").exists()  # not whole while it is being rewritten
    whole = writer.finish(manifest, "card", {})
    assert sorted(whole["files"]) == sorted(contents(bundle).keys() - {"manifest.json"})
    assert len(pd.read_parquet(bundle / "data")) == 4


def test_previews_are_labelled_rows_of_released_images(bundle: Path) -> None:
    names = sorted(path.name for path in (bundle / "previews").iterdir())
    assert names == ["00-all.png", "01-kind-of-thing.png", "02-weight.png"]
    sheet = Image.open(bundle / "previews" / "02-weight.png")
    assert sheet.height == 4 + 4 * (8 * 6 + 4)  # four cells, pictures enlarged six times


def test_wrong_shapes_are_refused_before_anything_is_written(
    tmp_path: Path, schema: Schema
) -> None:
    writer = BundleWriter(tmp_path / "new", schema, TOTAL, CHUNK)
    images, codes = make_chunk(schema, 0, 10)
    rng = np.random.default_rng(0)
    for bad_images, bad_codes in (
        (images[:9], codes),
        (images.astype(np.float32), codes),
        (images, codes[:, :1]),
    ):
        with pytest.raises(ValueError, match="Chunk 0"):
            writer.write_chunk(0, bad_images, bad_codes, rng)
    with pytest.raises(IndexError):
        writer.write_chunk(3, images, codes, rng)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("total", "chunk"), [(0, 5), (5, 0)])
def test_empty_bundles_are_refused(tmp_path: Path, schema: Schema, total: int, chunk: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        BundleWriter(tmp_path, schema, total, chunk)
