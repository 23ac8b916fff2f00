"""The steward's check lists every fault at once and never fails."""

import io
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from dagster_project.data.check import check, look
from dagster_project.data.image_faults import Reason
from dagster_project.data.picture_sizes import crop_cause, picture_size
from tests.data.toys import SCHEMA, bomb, columns, png, write, write_csv


@pytest.fixture
def schema_path(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text(yaml.safe_dump(SCHEMA.to_dict(), sort_keys=False))
    return path


def test_clean_data_has_no_fault(tmp_path, schema_path):
    told = []
    folder = write(tmp_path / "data", columns(20))
    assert check(folder, schema_path, progress=lambda done, _: told.append(done)) == []
    assert told[-1] == 1.0


def test_every_fault_is_listed_with_its_row(tmp_path, schema_path):
    table = columns(
        14,
        id={0: None, 3: "p2"},
        kind={4: "robot", 5: None},
        weight={6: float("nan"), 7: -1},
        image={8: None, 9: png(7)[:-30], 10: bomb(), 11: png(mode="I;16"), 12: b"?"},
    )
    folder = write(tmp_path / "data", table)
    write(folder, {k: v[1:3] for k, v in columns(3).items()}, "heldout.parquet")
    faults = check(folder, schema_path)
    assert not any(fault.stops for fault in faults)
    rows = [fault.row for fault in faults if fault.file == "train.parquet"]
    assert sorted(set(rows)) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    text = "\n".join(map(str, faults))
    for words in (
        "row 1: no person id",
        "'p2' is in rows 3, 4",
        "row 2: 'p1' is also in heldout.parquet",
        "row 5: kind 'robot' is outside the domain; the row is dropped",
        "row 6: kind None is absent",
        "row 7: weight nan is absent or not a number; the row is dropped",
        "row 8: weight -1.0 is outside the domain; it becomes '[0, 1)'",
        "row 9: the image is unusable (missing: ",
        "row 10: the image is unusable (truncated or damaged)",
        "row 11: the image is unusable (too many pixels ",
        "row 12: the image is unusable (grey of more than 8 bits ",
        "row 13: the image is unusable (not a readable PNG",
    ):
        assert words in text


def test_one_valued_attributes_empty_tables_and_huge_values(tmp_path, schema_path):
    table = columns(4, kind=dict.fromkeys(range(4), "doll"), id={3: "x" * 100_000})
    faults = check(write(tmp_path / "data", table), schema_path)
    assert [fault.text for fault in faults] == [
        "kind is 'doll' in every usable row and carries no information."
    ]
    table = columns(4, kind={0: "y" * 100_000})
    faults = check(write(tmp_path / "data", table), schema_path)
    assert len(faults) == 1 and len(str(faults[0])) < 200
    folder = write_csv(tmp_path / "empty", ["id,kind,weight"], {})
    faults = [fault.text for fault in check(folder, schema_path)]
    assert faults == ["the table is empty.", "the folder is empty."]


def test_images_without_a_row_and_names_that_lead_out(tmp_path, schema_path):
    lines = [
        "id,image,kind,weight",
        "1,a.png,ball,0.5",
        "2,../schema.yaml,doll,2",
        "3,c.png,doll,2",
    ]
    folder = write_csv(tmp_path / "data", lines, {"a.png": png(), "b.png": png()})
    (folder / "images" / "c.png").symlink_to(folder / "images" / "a.png")
    assert [str(fault) for fault in check(folder, schema_path)] == [
        f"note   records.csv, row 2: the image is unusable ({Reason.LEAVES}); the row is dropped.",
        f"note   records.csv, row 3: the image is unusable ({Reason.LINK}); the row is dropped.",
        "note   images: no row names the image 'b.png'.",
    ]


def test_broken_rows_are_counted_and_named(tmp_path, schema_path):
    lines = ["id,kind,weight", '1,ball,"2', "", "2,ball,2", "3,ball", '4,"do"ll,2', "5,doll,0"]
    folder = write_csv(tmp_path / "data", lines, {f"{i}.png": png() for i in (2, 5)})
    with (folder / "records.csv").open("ab") as file:
        file.write(b"6,b\xe4ll,2\n" * 12)
    assert [str(fault) for fault in check(folder, schema_path)] == [
        "note   records.csv, row 1: line with an open or stray quote: 2 rows, 1, 5; each is "
        "dropped.",
        "note   records.csv, row 4: line with a wrong number of fields: one row, which is dropped.",
        "note   records.csv, row 7: line that is not UTF-8: 12 rows, 7, 8, 9, 10, 11, 12, 13, 14, "
        "15, 16 and 2 more; each is dropped.",
    ]


def test_schema_and_column_faults_stop(tmp_path, schema_path):
    folder = write(tmp_path / "data", {"id": ["a"], "more": [1]})
    faults = check(folder, schema_path)
    assert len(faults) == 4 and all(fault.stops for fault in faults)
    assert [fault.stops for fault in check(tmp_path / "gone", schema_path)] == [True]
    content = {**SCHEMA.to_dict(), "n_public": "many", "extra": 1}
    schema_path.write_text(yaml.safe_dump(content))
    assert len(check(folder, schema_path)) == 2
    assert [fault.stops for fault in check(folder, tmp_path / "none.yaml")] == [True]


@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_never_raise(tmp_path, schema_path, seed):
    folder = write(tmp_path / "data", columns(30))
    path = folder / "train.parquet"
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(4, len(content), 40):
        content[place] = rng.integers(256)
    path.write_bytes(bytes(content))
    for fault in check(folder, schema_path):
        assert len(str(fault)) < 400


def test_a_look_says_what_would_train_by_reason_and_by_value_worst_first(tmp_path, schema_path):
    sharp = {i: png(mode="I;16") for i in range(0, 60, 2)}  # all balls
    table = columns(60, image={**sharp, 1: None}, weight={3: 99})
    found = look(write(tmp_path / "data", table), schema_path, examples=2)
    assert (found.rows.found, found.rows.kept) == (60, 29)
    assert (found.people.kept, found.pictures.kept) == (29, 29)
    assert [(r.text, r.rows, r.lost, len(r.examples)) for r in found.reasons] == [
        (f"image {Reason.WINDOW}", 30, True, 2),
        (f"image {Reason.NOT_NAMED}", 1, True, 1),
        ("weight is outside the domain", 1, False, 1),
    ]
    assert str(found.values[0]) == "0 of 30 rows with kind 'ball' (100.0 % lost)"
    assert found.exceeding(0.6) == found.values[0] and found.exceeding(0.5) == found.people
    assert look(write(tmp_path / "good", columns(30)), schema_path, examples=0).exceeding(0) is None


def test_a_row_whose_person_cannot_be_read_is_a_person_lost(tmp_path, schema_path):
    lines = ["id,kind,weight", *(f"{i},ball,2," for i in range(9)), "9,doll,0"]
    folder = write_csv(tmp_path / "data", lines, {"9.png": png()})
    found = look(folder, schema_path, examples=0)
    assert (found.people.found, found.people.kept) == (10, 1)
    assert found.causes[:-1] == (
        "records.csv: 9 of 10 rows end in a delimiter that the first line lacks, so that they have "
        "one field too many: state `table: {trailing_delimiters: true}`.",
    )


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"id;kind;weight", "separated by semicolons, and the schema says ','"),
        (
            b"id\tkind\tweight",
            "by tabs, and the schema says ',': state `table: {delimiter: \"\\t\"}`",
        ),
        (b"sep=;\nid;kind;weight", "Excel's first line that ';' separates fields"),
        ("id,kind,weight".encode("utf-16"), "UTF-16"),
        ("id,kind,weight,gr\u00f6\u00dfe".encode("cp1252"), "Windows-1252"),
        (b"id, Kind, weight", "lacks the column 'kind' but has 'Kind'"),
        (b",id,kind,weight", "index column without a name"),
        (b"id,kind,weight,", "a delimiter at the end of its first line"),
        (b"id,kind,weight_kg", "lacks the column 'weight' but has 'weight_kg'"),
        (b"", "names its columns in line 2: delete the lines before it"),
        (b"Export of 2024,,", "names its columns in line 2"),
        (b"id kind weight", "separated by spaces"),
        (b"'id','kind','weight'", "in single quotes"),
        (b"p1,ball,3", "names none of the schema's columns"),
        (b"PK\x03\x04\x14", "an Excel workbook"),
        (b"PAR1\x15", "call it records.parquet"),
        (b"\x1f\x8b\x08", "compressed by gzip"),
        (b"<html>", "HTML"),
        (b"id,kind,weight\rp1,ball,3\r", "carriage returns alone"),
    ],
)
def test_a_first_line_that_does_not_fit_gets_its_cause(tmp_path, schema_path, header, words):
    folder = write_csv(tmp_path / "data", [], {})
    later = b"id,kind,weight" if words.startswith("names its") else b""
    end = b"" if header.endswith(b"\r") else b"\n"
    (folder / "records.csv").write_bytes(header + end + later)
    (fault,) = check(folder, schema_path)
    assert fault.stops and words in fault.text


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((20, 8), "lose 60 % to the centre crop, because the schema's image is 8 x 8: state them"),
        ((10, 8), None),
    ],
)
def test_pictures_that_are_mostly_cut_off_are_told(tmp_path, schema_path, size, words):
    table = columns(50, image={i: png(size=size) for i in range(50)})
    found = look(write(tmp_path / "data", table), schema_path, examples=0).causes
    assert (words is None and not found) or words in found[0]


def test_a_picture_lies_as_its_orientation_says():
    tilted, file = Image.new("L", (20, 8)), io.BytesIO()
    exif = tilted.getexif()
    exif[274] = 6
    tilted.save(file, "JPEG", exif=exif)
    assert picture_size(file.getvalue()) == (8, 20)
    assert picture_size(png(size=(20, 8))) == (20, 8)
    assert picture_size(None) is None and picture_size(b"?") is None
    wide = replace(SCHEMA.image, width=20)
    assert "exchange its height and width" in crop_cause({(8, 20): 3}, wide)


@pytest.mark.parametrize(
    ("kind", "weight", "words"),
    [
        ("BALL", "1", "kind: 30 rows hold values such as 'BALL', which differ from the categories"),
        ("ball|doll", "1", "several labels in one cell"),
        ("car", "1", "kind: 30 rows hold values outside the domain, most often 'car' (30)"),
        ("ball", '"1,5"', "with a decimal comma"),
        ("ball", "060Y", "ages with a unit"),
        ("ball", "2016-04-01", "which are dates"),
    ],
)
def test_values_that_do_not_fit_get_their_cause(tmp_path, schema_path, kind, weight, words):
    rows = [f"{i},{kind},{weight}" for i in range(30)]
    folder = write_csv(tmp_path / "data", ["id,kind,weight", *rows], {})
    cause, few = look(folder, schema_path, examples=0).causes
    assert few.startswith("0 people are left, fewer than half of n_public: 100")
    assert words in cause


def test_texts_with_line_breaks_are_named_as_such(tmp_path, schema_path):
    lines = ["id,kind,weight,note", *(f'{i},ball,2,"one\ntwo"' for i in range(5))]
    folder = write_csv(tmp_path / "data", lines, {})
    content = {**SCHEMA.to_dict(), "table": {"ignore": ["note"]}}
    schema_path.write_text(yaml.safe_dump(content))
    (cause, *_) = look(folder, schema_path, examples=0).causes
    assert "10 of 10 lines begin or end within quotes" in cause and "line_breaks: true" in cause
    content["table"]["line_breaks"] = True
    schema_path.write_text(yaml.safe_dump(content))
    assert look(folder, schema_path, examples=0).rows.found == 5


def test_rows_in_another_encoding_do_not_pass_for_the_rest_of_a_text(tmp_path, schema_path):
    folder = write_csv(tmp_path / "data", [], {})
    lines = ["id,kind,weight,note", *(f'{i},ball,2,"größer\nals"' for i in range(5)), "9,ball,2,x"]
    (folder / "records.csv").write_text("\n".join(lines), encoding="cp1252")
    content = {**SCHEMA.to_dict(), "table": {"ignore": ["note"], "line_breaks": True}}
    schema_path.write_text(yaml.safe_dump(content))
    found = look(folder, schema_path, examples=0)
    assert found.rows.found == 6 and found.rows.kept == 0  # no image either
    assert "5 of 6 rows are not UTF-8" in found.causes[0] and "cp1252" in found.causes[0]


def test_a_text_that_is_no_number_is_not_taken_for_an_absent_one(tmp_path, schema_path):
    content = SCHEMA.to_dict()
    content["attributes"]["weight"] |= {"missing": True, "missing_values": ["n/a"]}
    schema_path.write_text(yaml.safe_dump(content))
    rows = [f"{i},ball,{weight}" for i, weight in enumerate(['"1,5"', "", "n/a", '"2,5"', "1"])]
    folder = write_csv(tmp_path / "data", ["id,kind,weight", *rows], {})
    found = look(folder, schema_path, examples=0)
    assert "weight: 2 rows hold values such as" in found.causes[0]
    assert 'decimal: ","' in found.causes[0]
    (changed,) = (reason for reason in found.reasons if not reason.lost)
    assert (changed.text, changed.rows) == ("weight is not a number", 2)


def test_values_of_declared_kinds_get_their_cause(tmp_path, schema_path):
    kinds = {
        "kind": {"kind": "labels", "labels": ["ball", "doll"]},
        "weight": {"kind": "date", "edges": ["2020-01-01", "2020-07-01", "2021-01-01"]},
        "new": {"kind": "boolean"},
        "age": {"kind": "age", "unit": "years", "edges": [0, 50, 100]},
    }
    schema_path.write_text(
        yaml.safe_dump({**SCHEMA.to_dict(), "attributes": kinds}, sort_keys=False)
    )
    rows = [f"{i},ball|car,{i % 28 + 1}.03.2020,ja,N/A" for i in range(30)]
    folder = write_csv(tmp_path / "data", ["id,kind,weight,new,age", *rows], {})
    found = look(folder, schema_path, examples=1)
    assert len(found.reasons) == 5  # with the missing image
    assert "age is absent or not an age" in {reason.text for reason in found.reasons}
    for cause, words in zip(
        found.causes,
        ["kind: 30 rows hold values such as 'ball|car', which hold labels that are not listed",
         "state `format: \"%d.%m.%Y\"`", "`true_values`", "`missing_values`", "fewer than half"],
        strict=True,
    ):  # fmt: skip
        assert words in cause
