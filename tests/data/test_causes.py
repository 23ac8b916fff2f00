"""The steward's check names the cause behind many faults, and the line that cures it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import yaml

from dagster_project.cli import main as cli
from dagster_project.data.attribute_rules import attributes
from dagster_project.data.check import look
from dagster_project.data.schema import Schema
from dagster_project.data.table_format import TableFormat
from dagster_project.data.value_causes import grouped_cause, id_causes, value_cause
from tests.data.toys import SCHEMA, png, write_csv

NUMBER = {"kind": "numeric", "edges": [0, 10, 5000]}
DATE = {"kind": "date", "edges": ["2000-01-01", "2010-01-01", "2030-01-01"]}
WORDS = {"kind": "categorical", "categories": ["f", "épanchement"]}


def attribute(body, **table):
    (made,) = attributes("x", body, TableFormat(**table))
    return made


@pytest.mark.parametrize(
    ("body", "texts", "words"),
    [
        (NUMBER, ["1.234,5", "2.000,0"], '`table: {thousands: ".", decimal: ","}`'),
        (NUMBER, ["1'234", "2\u2019000"], '`table: {thousands: "\'", decimal: "."}`'),
        (NUMBER, ["1\u00a0234", "2 000"], '`table: {thousands: " ", decimal: "."}`'),
        (NUMBER, ["1,234", "2,000"], '`table: {thousands: ","}` or `table: {decimal: ","}`'),
        (NUMBER, ["1,5", "2,25"], '`table: {decimal: ","}`'),
        (NUMBER, ["45 %", "50 %"], '`suffix: "%"`'),
        (NUMBER, ["45 kg", "50.5 kg"], '`suffix: "kg"`'),
        (NUMBER, ["#DIV/0!", "#N/A"], "`missing_values`"),
        (NUMBER, ["<5", "20-29"], "`kind: categorical`"),
        (DATE, ["31/12/2020", "01/02/2020"], '`format: "%d/%m/%Y"`'),
        (DATE, ["01/02/2020"], '`format: "%d/%m/%Y"` or `format: "%m/%d/%Y"`'),
        (DATE, ["43831"], "Excel's numbers of days"),
        (WORDS, ["\u00c3\u00a9panchement"], "`table: {encoding: utf-8}`"),
        (WORDS, ["f\u200b"], "invisible characters"),
        (WORDS, ["Female"], "`aliases`"),
    ],
)
def test_values_that_do_not_fit_get_a_cure(body, texts, words):
    assert words in value_cause(attribute(body), Counter(texts))


@pytest.mark.parametrize(
    ("table", "more", "text", "number"),
    [
        ({"thousands": ".", "decimal": ","}, {}, "1.234,5", 1234.5),
        ({"thousands": "."  , "decimal": ","}, {}, "1.234.567", 1234567),
        ({"thousands": ".", "decimal": ","}, {}, "1.23", np.nan),
        ({"thousands": "'"}, {}, "-1\u2019234", -1234),
        ({"thousands": " "}, {}, "1\u202f234.5", 1234.5),
        ({"thousands": ","}, {}, "12,34", np.nan),
        ({"thousands": ","}, {}, ",234", np.nan),
        ({}, {"suffix": "%"}, "45 %", 45),
        ({}, {"suffix": "%"}, "45", 45),
        ({}, {"suffix": "%"}, "45 kg", np.nan),
        ({}, {}, "\u22125", -5),
    ],
)  # fmt: skip
def test_declared_numbers_are_read(table, more, text, number):
    made = attribute({**NUMBER, **more}, **table)
    np.testing.assert_equal(made._number(text), float(number))


def test_declared_numbers_survive_in_the_schema():
    content = SCHEMA.to_dict()
    content["table"] = {"thousands": " ", "decimal": ","}
    content["attributes"]["weight"]["suffix"] = "kg"
    schema = Schema.from_dict(content)
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.attributes[1].thousands == " " and schema.attributes[1].suffix == "kg"
    content["table"]["thousands"] = ","
    with pytest.raises(ValueError, match="decimal and thousands must differ"):
        Schema.from_dict(content)


def test_thousands_that_are_read_as_fractions_are_noticed():
    made = attribute(NUMBER)
    assert '`table: {thousands: "."' in grouped_cause(made, Counter({True: 30}))
    assert grouped_cause(made, Counter({True: 30, False: 1})) is None


def test_ids_that_programs_changed_are_noticed():
    (cause,) = id_causes(["1.2E+11", "77"], "exact")
    assert "Excel shortened" in cause
    (cause,) = id_causes(["007", "7", "8"], "exact")
    assert "`person_id_rule: integer`" in cause
    (cause,) = id_causes(["P1", "p1"], "exact")
    assert "spell them alike" in cause
    assert id_causes(["1", "2", "a"], "exact") == [] == id_causes(["7"], "integer")


@pytest.fixture
def project(tmp_path):
    def make(names, files, **image):
        schema = replace(SCHEMA, image=replace(SCHEMA.image, **image), n_public=20)
        lines = ["id,image,kind,weight", *(f"p{i},{name},ball,{i}" for i, name in enumerate(names))]
        folder = write_csv(tmp_path / "data", lines, {})
        for name, content in files.items():
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (folder / "schema.yaml").write_text(yaml.safe_dump(schema.to_dict(), sort_keys=False))
        return folder

    return make


@pytest.mark.parametrize(
    ("name", "file", "cure"),
    [
        ("{i}.png", "{i}.jpg", {"file": ["{name}", "{stem}.jpg"]}),
        ("{i}", "{i}.png", {"file": ["{name}", "{name}.png"]}),
        ("{i}.png", "0000{i}.png", {"file": ["{name}", "{name:9}"]}),
        ("a{i}.png", "A{i}.PNG", {"file": ["{name}", "{name:upper}"]}),
        ("{i}.png", "site/{i}.png", {"file": ["{name}", "site/{name}"]}),
        ("images/{i}.png", "{i}.png", {"strip_prefix": "images"}),
        ("../images/a/{i}.png", "a/{i}.png", {"strip_prefix": "../images"}),
        (r"H:\x\a\{i}.png", "a/{i}.png", {"separator": "\\", "strip_prefix": "H:\\x"}),
        ("it's/{i}.png", "{i}.png", {"strip_prefix": "it's"}),
    ],
)
def test_names_without_a_file_get_lines_that_find_them(project, name, file, cure):
    numbers = range(1, 5)
    names = [name.format(i=i) for i in numbers]
    folder = project(names, {file.format(i=i): png() for i in numbers})
    found = look(folder, folder / "schema.yaml", examples=0)
    (cause,) = [text for text in found.causes if text.startswith("images: 4 of 4 names")]
    stated = yaml.safe_load(cause.partition("`")[2].partition("`")[0])["image"]
    assert stated.pop("file", None) == cure.get("file") or len(names[0]) == 5
    content = yaml.safe_load((folder / "schema.yaml").read_text())
    content["image"] |= yaml.safe_load(cause.partition("`")[2].partition("`")[0])["image"]
    (folder / "schema.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert look(folder, folder / "schema.yaml", examples=0).pictures.kept == 4


def test_empty_pictures_or_those_of_several_people_are_noticed(project):
    folder = project(["a.png"] * 12, {"a.png": png(255)})
    causes = "\n".join(look(folder, folder / "schema.yaml", examples=0).causes)
    assert "12 of 12 pictures are all black or all white" in causes
    assert "'a.png' (and 0 others) is named by rows of several people, here 12" in causes


def test_endings_in_any_usual_case_are_found(project):
    folder = project(["1.png", "2.png"], {"1.Png": png(), "2.PNG": png()})
    assert look(folder, folder / "schema.yaml", examples=0).pictures.kept == 2


def test_a_table_of_nobody_is_refused(project, capsys):
    folder = project([], {"a.png": png()})
    (folder.parent / "population.yaml").write_text("population: toys\n")
    arguments = ["check", "--root", str(folder.parent), "--data", str(folder)]
    assert cli.main(arguments) == 2
    assert "nobody would train" in capsys.readouterr().err
