"""`init` drafts what the form of a folder shows, and nothing runs while a blank is left."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import jsonschema
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dagster_project.api import release
from dagster_project.cli import main as cli
from dagster_project.data import image_rules
from dagster_project.data.attribute_rules import COMMON, KINDS
from dagster_project.data.blanks import BLANK, blanks
from dagster_project.data.schema import Schema, SchemaError
from dagster_project.data.schema_rules import OPTIONAL, TOP, read_yaml, schema_faults
from dagster_project.data.table_format import TableFormat
from dagster_project.ledger.population import Population, PopulationError
from dagster_project.orchestration.assets.dataset import dataset
from dagster_project.orchestration.resources import BudgetLedger, DataSet
from dagster_project.pipeline.beforehand import require_numbers
from dagster_project.starting import json_schema as described
from dagster_project.starting.draft import image_column
from dagster_project.starting.folder import UnknownFolder, look, open_table
from dagster_project.starting.json_schema import json_schema

SECRET = "zqxsecret"
POPULATION = (
    "population: clinic\nunit: person\nrelation: add_remove\nlifetime_epsilon: 10.0\n"
    "target_delta: 1.0e-6\nn_public: 10\n"
)
HEADER = "PatientID;sex;Age (years);admission_date;Frontal/Lateral;notes;file_name"


def data(root: Path, encoding: str = "utf-8") -> Path:
    """A folder whose values must not be looked at: each one is the secret."""
    folder = root / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "1.PNG").write_bytes(b"")
    record = ";".join([SECRET] * 7)
    (folder / "records.csv").write_text(f"{HEADER}\n{record}\n", encoding=encoding)
    return folder


def init(folder: Path, *more: str) -> int:
    return cli.main(["init", str(folder), *more])


def test_a_draft_has_what_the_form_shows_and_a_blank_for_each_public_fact(tmp_path, capsys):
    folder = data(tmp_path)
    assert init(folder) == 0
    text = (folder / "schema.yaml").read_text()
    written = [text, (tmp_path / "population.yaml").read_text(), capsys.readouterr().out]
    assert not any(SECRET in some for some in written)
    content = read_yaml(folder / "schema.yaml")
    assert blanks(content) == [
        *("name", "population", "n_public", "person_id", "table.decimal"),
        *("image.channels", "image.height", "image.width"),
        *("attributes.sex.categories", "attributes.Age _years.edges"),
        *("attributes.admission_date.edges", "attributes.admission_date.format"),
        "attributes.Frontal_Lateral.categories",
    ]
    assert (content["table"]["delimiter"], content["table"]["ignore"]) == (";", ["notes"])
    assert content["image"]["column"] == "file_name"
    assert content["attributes"]["Frontal_Lateral"]["column"] == "Frontal/Lateral"
    people = yaml.safe_load(written[1])
    assert blanks(people) == ["population", "lifetime_epsilon", "n_public"]
    explained = [line for line in text.splitlines() if BLANK in line and not line.startswith("#")]
    assert all("  # " in line for line in explained)


def test_every_command_refuses_a_blank_and_names_it(tmp_path, capsys):
    folder = data(tmp_path)
    init(folder, "--name", "clinic", "--n-public", "300")
    capsys.readouterr()
    where = ["--root", str(tmp_path)]
    for command in (
        ["check", "--data", str(folder)],
        ["plan", "--data", str(folder), "--epsilon", "1"],
        ["release", "--data", str(folder), "--epsilon", "1"],
        ["ledger", "show"],
        ["audit", "--quick"],
    ):
        assert cli.main([command[0], *where, *command[1:]]) == 2
        told = capsys.readouterr().err
        assert "lifetime_epsilon" in told and len(told.strip().splitlines()) == 1
        assert ("attributes.sex.categories" in told) == ("--data" in command)
    assert not (tmp_path / "ledger").exists()
    with pytest.raises(SchemaError, match=r"person_id.*image\.height"):
        Schema.from_file(folder / "schema.yaml")
    with pytest.raises(PopulationError, match="lifetime_epsilon"):
        Population.load(tmp_path / "population.yaml")


def test_a_filled_draft_is_a_schema_that_the_json_schema_accepts(tmp_path):
    folder = data(tmp_path)
    init(folder, "--name", "Our clinic", "--n-public", "300")
    text = (folder / "schema.yaml").read_text()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json_schema())
    for blank, filled in (
        ("person_id: FILL_IN", "person_id: PatientID"),
        ("decimal: FILL_IN", "decimal: ','"),
        ("channels: FILL_IN", "channels: 1"),
        ("height: FILL_IN", "height: 28"),
        ("width: FILL_IN", "width: 28"),
        ("categories: [FILL_IN]", "categories: [a, b]"),
        ("format: FILL_IN", "format: '%d.%m.%Y'"),
        ("edges: [FILL_IN]  # bounds of the", "edges: [0, 50, 100]  #"),
        ("edges: [FILL_IN]", "edges: ['2015-01-01', '2025-01-01']"),
    ):
        assert blank in text
        text = text.replace(blank, filled)
    (folder / "schema.yaml").write_text(text)
    schema = Schema.from_file(folder / "schema.yaml")
    assert schema.name == "Our clinic" and schema.population == "Our-clinic"
    jsonschema.validate(read_yaml(folder / "schema.yaml"), json_schema())
    line = text.splitlines()[0]
    assert line.startswith("# yaml-language-server: $schema=")
    beside = json.loads((folder / line.partition("=")[2]).read_text())
    assert beside == json_schema()
    jsonschema.Draft202012Validator.check_schema(beside)


def test_the_json_schema_describes_every_field_there_is():
    attribute = COMMON.union(*(needed | optional for needed, optional in KINDS.values()))
    assert set(described.ATTRIBUTE) == attribute
    assert set(described.TABLE) == {field.name for field in fields(TableFormat)}
    assert set(described.IMAGE) == set(image_rules.RULES)
    assert set(described.FIELDS) == TOP
    assert set(json_schema()["required"]) == TOP - OPTIONAL


VALID = {
    "name": "a",
    "person_id": "p",
    "n_public": 10,
    "image": {"column": "i", "channels": 1, "height": 8, "width": 8},
    "attributes": {"s": {"kind": "categorical", "categories": ["f", "m"]}},
}


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"n_public": 0},
        {"image": {**VALID["image"], "height": 100}},
        {"image": {**VALID["image"], "window": [0, 1]}},
        {"table": {"delimiter": "x"}},
        {"attributes": {}},
        {"attributes": {"s": {"kind": "colour", "categories": ["f", "m"]}}},
        {"attributes": {"s": {"kind": "numeric", "categories": ["f", "m"]}}},
        {"attributes": {"s": {"kind": "age", "edges": [0, 10], "unit": "moons"}}},
    ],
)
def test_editors_and_commands_refuse_the_same(change):
    assert not schema_faults(VALID)
    jsonschema.validate(VALID, json_schema())
    assert schema_faults({**VALID, **change})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**VALID, **change}, json_schema())


def test_json_schema_is_printed(capsys):
    assert cli.main(["init", "--json-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()


def test_parquet_tells_types(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    table = pa.table(
        {
            "subject": pa.array([SECRET]),
            "scan": pa.array([b"x"], pa.binary()),
            "smoker": pa.array([True]),
            "visits": pa.array([1], pa.int16()),
            "seen": pa.array([0], pa.date32()),
            "weight": pa.array([1.5]),
        }
    )
    pq.write_table(table, folder / "records.parquet")
    assert init(folder) == 0
    content = read_yaml(folder / "schema.yaml")
    kinds = {name: body["kind"] for name, body in content["attributes"].items()}
    assert kinds == {"smoker": "boolean", "visits": "numeric", "seen": "date", "weight": "numeric"}
    assert content["attributes"]["visits"]["integer"] is True
    assert content["image"]["column"] == "scan" and "delimiter" not in content["table"]


def test_a_public_sample_fills_the_domains(tmp_path):
    folder, sample = data(tmp_path), tmp_path / "sample.csv"
    rows = pd.DataFrame(
        {"sex": ["f", "m"] * 20, "Age (years)": range(20, 60), "Frontal/Lateral": ["F", "L"] * 20}
    )
    rows.to_csv(sample, index=False, sep=";")
    assert init(folder, "--from-public-sample", str(sample)) == 0
    attributes = read_yaml(folder / "schema.yaml")["attributes"]
    assert attributes["sex"]["categories"] == ["f", "m"]
    assert attributes["Frontal_Lateral"]["categories"] == ["F", "L"]
    assert attributes["Age _years"]["edges"] == [20, 25, 30, 35, 40, 45, 50, 55, 60]
    assert BLANK in attributes["admission_date"]["edges"]


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8-sig", "utf-8"), ("utf-16", "utf-16"), ("cp1252", "cp1252"), ("utf-8", "utf-8")],
)
def test_the_first_line_shows_delimiter_and_encoding(tmp_path, encoding, found):
    file = tmp_path / "export.csv"
    file.write_bytes("Größe\tname\r\n1\t2\r\n".encode(encoding))
    table = open_table(file)
    assert (table.delimiter, table.encoding) == ("\t", found)
    assert list(table.columns) == ["Größe", "name"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{SECRET},47,m\n", "looks like a record"),
        (f"{SECRET},2020-01-31\n", "looks like a record"),
        (f"{SECRET},a.png\n", "looks like a record"),
        ("sep=;\na;b\n", "sep="),
        ("a,a\n", "distinct"),
        ("a\n", "two or more"),
    ],
)
def test_a_line_that_is_no_header_is_refused_and_not_quoted(tmp_path, content, words):
    (tmp_path / "records.csv").write_text(content)
    with pytest.raises(UnknownFolder, match=words) as caught:
        look(tmp_path)
    assert SECRET not in str(caught.value)


def test_a_folder_without_one_table_is_refused(tmp_path, capsys):
    assert init(tmp_path / "nowhere") == 2
    folder = tmp_path / "data"
    folder.mkdir()
    assert init(folder) == 2
    (folder / "export.xlsx").write_bytes(b"")
    assert init(folder) == 2
    assert "save it as CSV" in capsys.readouterr().err
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("patient,sex\n")
    assert init(folder) == 2
    assert init(folder, "--table", str(folder / "a.csv")) == 0
    assert "import table" in capsys.readouterr().out  # as it is not called records.csv


def test_drafts_are_not_overwritten(tmp_path, capsys):
    folder = data(tmp_path)
    assert init(folder, "--name", "clinic", "--n-public", "300") == 0
    before = (tmp_path / "population.yaml").read_text()
    assert init(folder) == 2
    assert "exists already" in capsys.readouterr().err
    (folder / "schema.yaml").unlink()
    assert init(folder) == 0
    content = read_yaml(folder / "schema.yaml")
    assert (content["population"], content["n_public"]) == ("clinic", 300)
    assert (tmp_path / "population.yaml").read_text() == before
    (folder / "schema.yaml").unlink()
    assert init(folder, "--root", str(folder)) == 2  # a ledger is no part of the data


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        (["patient", "image"], "image"),
        (["patient", "Image Index", "image_date"], "Image Index"),
        (["patient", "path", "file"], None),
        (["patient", "sex"], None),
    ],
)
def test_the_image_column_is_known_by_its_name(tmp_path, columns, image):
    (tmp_path / "a.csv").write_text(",".join(columns) + "\n")
    assert image_column(open_table(tmp_path / "a.csv")) == image


def test_schema_and_population_must_agree(tmp_path):
    (tmp_path / "population.yaml").write_text(POPULATION)
    population = Population.load(tmp_path / "population.yaml")
    for change in ({}, {"population": "clinic"}):
        require_numbers(Schema.from_dict({**VALID, **change}), population, [], "all")
    with pytest.raises(ValueError, match="belongs to the population 'other'"):
        require_numbers(Schema.from_dict({**VALID, "population": "other"}), population, [], "all")
    with pytest.raises(ValueError, match=r"n_public: 11, and population\.yaml 10"):
        require_numbers(Schema.from_dict({**VALID, "n_public": 11}), population, [], "all")


def test_a_wrong_population_gets_no_ledger(tmp_path):
    """A ledger fixes name and number for good, so the first one must be right."""
    data, schema = tmp_path / "data", {**VALID, "n_public": 500}
    (data / "images").mkdir(parents=True)
    (data / "records.csv").write_text("p,i,s\n")
    (data / "schema.yaml").write_text(yaml.safe_dump(schema))
    (tmp_path / "population.yaml").write_text(POPULATION)
    with pytest.raises(ValueError, match="n_public: 500"):
        release(tmp_path, epsilon=1.0, delta=1e-6, approved_by="me")
    budget, folder = BudgetLedger(root=str(tmp_path)), DataSet(folder=str(data), root=str(tmp_path))
    with pytest.raises(ValueError, match="n_public: 500"):
        dataset(folder, budget)
    assert not (tmp_path / "ledger").exists()
