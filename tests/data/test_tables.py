"""Tables as people have them: every declared form gives the same records, CSV and Parquet alike."""

import datetime
import decimal
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.data.attribute_rules import KINDS
from dagster_project.data.layout import column_faults, empty_frame, find_layout
from dagster_project.data.reading import encode_records, read_pairs
from dagster_project.data.rows import stream
from dagster_project.data.schema import Schema
from dagster_project.data.schema_rules import schema_faults
from dagster_project.data.table_format import ENCODINGS, TableFormat
from tests.data.toys import SCHEMA, png, shades, write_csv

PEOPLE = [("00001", "m", "47.5", "none"), ("00002", "f", "52", "effusion"), ("00003", "", "76", "")]
ATTRIBUTES = {
    "sex": {"kind": "categorical", "categories": ["f", "m"], "missing": True},
    "age": {"kind": "numeric", "edges": [0, 50, 100]},
    "finding": {"kind": "categorical", "categories": ["none", "effusion"], "missing": True},
}
CODES = [["00001", 1, 0, 0], ["00002", 0, 1, 1], ["00003", 2, 1, 2]]


def schema_of(attributes=ATTRIBUTES, **more):
    image = {"column": "image", "channels": 1, "height": 8, "width": 8}
    content = {"name": "clinic", "person_id": "patient", "n_public": 400, "image": image}
    return Schema.from_dict({**content, "attributes": attributes, **more})


def records(file, schema):
    """The id and cells of every usable row, and the reasons of the others."""
    reasons = Counter()
    found = []
    for batch in stream(file, [schema.person_id, *schema.columns], schema):
        rows = encode_records(batch, schema, reasons)
        found += [[rows.ids[i], *rows.codes[i].tolist()] for i in np.flatnonzero(rows.usable)]
    return found, {reason: n for reason, n in reasons.items() if n}


def csv_file(folder, content, encoding="utf-8"):
    (folder / "images").mkdir(exist_ok=True)
    (folder / "records.csv").write_bytes(content.encode(encoding))
    return folder / "records.csv"


def lines(delimiter=",", head="patient,sex,age,finding", end="\n", tail="", people=PEOPLE):
    rows = [head, *(",".join(person) + tail for person in people)]
    return "".join(row.replace(",", delimiter) + end for row in rows)


TEXT = '"seen, ""here""\n\nsecond line",x\n'
FORMS = {
    "semicolon": (lines(";"), {"delimiter": ";"}),
    "tab": (lines("\t", end="\r\n"), {"delimiter": "\t"}),
    "bar": (lines("|"), {"delimiter": "|"}),
    "decimal comma": (lines(";").replace("47.5", "47,5"), {"delimiter": ";", "decimal": ","}),
    "line of Excel": ("sep=;\n" + lines(";"), {"delimiter": ";"}),
    "quoted line of Excel": ('"sep=,"\r\n' + lines(end="\r\n"), {}),
    "spaces": (lines(head=" patient , sex,age , finding").replace("m", " m "), {}),
    "missing": (lines().replace("76,", "76,n/a").replace(",,", ",-,"),
                {"missing_values": ["n/a", "-"]}),
    "index": (lines(head=",patient,sex,age,finding").replace("\n0", "\n7,0"), {"ignore": [""]}),
    "others": (lines(head="patient,sex,age,finding,note,note", tail=",a,b"),
               {"ignore": "all others"}),
    "commas behind all": (lines(head="patient,sex,age,finding,,", tail=",,"),
                          {"trailing_delimiters": True}),
    "commas behind rows": (lines(tail=","), {"trailing_delimiters": True}),
    "commas behind header": (lines(head="patient,sex,age,finding,"), {"trailing_delimiters": True}),
    "unquoted": (lines(head="patient,sex,age,finding,note", tail=',5" scar'),
                 {"ignore": ["note"], "quote": "none"}),
    "texts with line breaks": (
        lines(head="patient,sex,age,finding,report,visit", tail="," + TEXT.strip()),
        {"ignore": ["report", "visit"], "line_breaks": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_declared_form_gives_the_same_records(tmp_path, form):
    content, table = FORMS[form]
    schema = schema_of(table=table)
    file = csv_file(tmp_path, content)
    assert column_faults(tmp_path, schema) == []
    assert records(file, schema) == (CODES, {})
    assert Schema.from_dict(schema.to_dict()) == schema


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8-sig", "utf-8"),
        ("cp1252", "cp1252"),
        ("latin-1", "latin-1"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
    ],
)
def test_each_declared_encoding_gives_the_same_records(tmp_path, encoding, declared):
    attributes = {
        "s\u00e4x": ATTRIBUTES["sex"],
        "age": ATTRIBUTES["age"],
        "finding": {**ATTRIBUTES["finding"], "aliases": {"erg\u00fcsse": "effusion"}},
    }
    text = lines(head="patient,s\u00e4x,age,finding").replace("effusion", "erg\u00fcsse")
    file = csv_file(tmp_path, text, encoding)
    schema = schema_of(attributes, table={"encoding": declared})
    assert records(file, schema) == (CODES, {})
    other = schema_of(attributes, table={"encoding": "utf-8" if declared != "utf-8" else "cp1252"})
    (fault,) = column_faults(tmp_path, other)
    causes = {"utf-8": "cannot be read as CSV", "utf-16": "table: {encoding: utf-16"}
    assert causes.get(declared, "table: {encoding: cp1252}") in fault


def test_the_mark_decides_the_order_of_bytes_in_utf16(tmp_path):
    schema = schema_of(table={"encoding": "utf-16", "delimiter": "\t"})
    file = csv_file(tmp_path, "\ufeff" + lines("\t"), "utf-16-be")
    assert records(file, schema) == (CODES, {})


def test_a_wrong_declaration_is_one_sentence(tmp_path):
    csv_file(tmp_path, "sep=;\n" + lines(";"))
    (fault,) = column_faults(tmp_path, schema_of())
    assert 'separates fields: state `table: {delimiter: ";"}`' in fault
    csv_file(tmp_path, lines(head="patient,sex,age,finding,report", tail=",x"))
    (fault,) = column_faults(tmp_path, schema_of())
    assert "lacks: ['report']" in fault and "ignore: all others" in fault
    csv_file(tmp_path, lines(head="1,sex,age,finding,secret", tail=",x"))
    assert "secret" not in " ".join(column_faults(tmp_path, schema_of()))


def test_ignored_columns_do_not_reach_the_checks(tmp_path):
    schema = schema_of(table={"ignore": ["note"]})
    csv_file(tmp_path, lines(head="patient,sex ,age,finding,note", tail=",x"))
    layout, _ = find_layout(tmp_path, schema)
    assert list(empty_frame(layout, schema)) == ["patient", "sex", "age", "finding"]


def test_text_that_breaks_before_a_used_column_costs_its_row(tmp_path):
    head, row = "patient,report,sex,age,finding\n", '1,"two\nlines",m,7,none\n'
    schema = schema_of(table={"ignore": ["report"], "line_breaks": True})
    file = csv_file(tmp_path, head + row + "2,one,m,7,none\n")
    assert records(file, schema)[0] == [["2", 1, 0, 0]]


def test_pictures_stay_with_their_records_whatever_columns_are_read(tmp_path):
    table = {"ignore": ["note"], "line_breaks": True}
    schema = Schema.from_dict({**SCHEMA.to_dict(), "table": table})
    head = ["id,image,note,kind,weight", '1,a.png,"open', '2,b.png,"two', 'lines",ball,1']
    folder = write_csv(
        tmp_path / "data",
        [*head, "3,c.png,one,ball,1", 'd.png,"four'],
        {f"{name}.png": png(shade) for name, shade in zip("abcd", (10, 20, 30, 40), strict=True)},
    )
    assert shades(read_pairs(folder, schema, heldout_key=None)[0]) == [30]


def test_a_number_that_means_missing_is_still_an_id(tmp_path):
    schema = schema_of(table={"missing_values": ["999", "NA"]})
    file = csv_file(tmp_path, "patient,sex,age,finding\n999,m,7,999.0\nNA,m,7,none\n")
    assert records(file, schema) == ([["999", 1, 0, 2]], {"row without a person id": 1})


def test_the_page_on_own_data_knows_every_declaration():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-data.md").read_text()
    words = {field.name for field in fields(TableFormat)}
    words |= {key for needed, optional in KINDS.values() for key in (*needed, *optional)}
    assert all(f"`{word}" in page for word in (*words, *KINDS, *ENCODINGS))
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.S)]
    schema, table = examples[:2]
    assert schema_faults({**schema, **table}) == []


RICH = schema_of(
    {
        "sex": {"kind": "categorical", "categories": ["f", "m"], "ignore_case": True,
                "aliases": {"Frau": "f"}, "missing": True},
        "edema": {"kind": "categorical", "categories": ["0", "1", "-1"], "missing": True},
        "code": {"kind": "categorical", "categories": ["001", "010", "1.10", "1.1"]},
        "shown": {"kind": "categorical", "categories": ["True", "False"]},
        "smoker": {"kind": "boolean", "missing": True},
        "urgent": {"kind": "boolean", "true_values": ["ja"], "false_values": ["nein"]},
        "age": {"kind": "age", "unit": "years", "edges": [0, 1, 18, 60, 120]},
        "stay": {"kind": "numeric", "edges": [0, 2.5, 30], "integer": True, "missing": True,
                 "missing_values": ["-9"]},
        "dose": {"kind": "numeric", "edges": [0, 0.5, 1], "column": "Dose [mSv]"},
        "visit": {"kind": "date", "edges": ["2015-01-01", "2018-01-01", "2024-01-01"]},
        "born": {"kind": "date", "edges": ["1900-01-01", "1950-01-01", "2024-01-01"],
                 "format": "%d.%m.%Y", "missing": True},
        "finding": {"kind": "labels", "labels": ["effusion", "mass", "no.2"], "none": "none",
                    "ignore_case": True, "aliases": {"fluid": "effusion"}},
    }
)  # fmt: skip
TABLE = pd.DataFrame(
    {
        "patient": ["1", "2", "3", "4"],
        "sex": pd.Categorical(["F", "m", None, "Frau"]),
        "edema": [1.0, -1.0, None, 0.0],
        "code": ["001", "010", "1.10", "1.1"],
        "shown": [True, False, True, False],
        "smoker": pd.array([True, False, None, True], "boolean"),
        "urgent": ["ja", "Nein", "JA", "nein"],
        "age": ["047Y", "018M", "003D", " 7 "],
        "stay": pd.array([2, 3, -9, None], "Int64"),
        "Dose [mSv]": [decimal.Decimal("0.50"), decimal.Decimal("0.2"), decimal.Decimal(1), 0],
        "visit": pd.to_datetime(
            ["2016-04-01", "2018-01-01 10:00", "2024-01-01", "2015-01-01"], format="mixed"
        ),
        "born": ["31.12.1949", "01.01.1950", None, "32.01.1950"],
        "finding": ["Effusion|mass", "none", "fluid | no.2", "MASS"],
    }
)
CELLS = [
    ["1", 0, 1, 0, 0, 1, 1, 2, 0, 1, 0, 0, 1, 1, 0],
    ["2", 1, 2, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0],
    ["3", 2, 3, 2, 0, 2, 1, 0, 2, 1, 1, 2, 1, 0, 1],
    ["4", 0, 0, 3, 1, 1, 0, 1, 2, 0, 0, 2, 0, 1, 0],
]


def test_csv_and_parquet_of_one_table_give_the_same_records(tmp_path):
    TABLE.to_csv(tmp_path / "records.csv", index=False)
    assert records(tmp_path / "records.csv", RICH) == (CELLS, {})
    for name, change in {
        "typed": {"visit": pa.array(TABLE.visit.dt.date, pa.date32()), "age": TABLE.age},
        "stamps": {" edema ": TABLE.edema, "edema": None},
        "numbers": {"edema": pa.array([1, -1, None, 0], pa.int64()), "smoker": [1, 0, None, 1]},
        "lists": {"finding": [["Effusion", "mass"], [], ["fluid", "no.2 "], ["MASS"]]},
        "text": {"visit": ["20160401", "2018-01-01T10:00:00+01:00", "2024-01-01", "2015-01-01"],
                 "stay": pa.array(["2", "3.0", "-9.0", ""], pa.string_view())},
    }.items():  # fmt: skip
        columns = {**dict(TABLE.items()), **change}
        arrays = {k: pa.array(v) for k, v in columns.items() if v is not None}
        (tmp_path / name / "images").mkdir(parents=True)
        pq.write_table(pa.table(arrays), tmp_path / name / "records.parquet")
        assert column_faults(tmp_path / name, RICH) == []
        assert records(tmp_path / name / "records.parquet", RICH) == (CELLS, {}), name


def test_released_kinds_are_those_of_the_table_and_are_read_back(tmp_path):
    rng = np.random.default_rng(7)
    codes = np.stack([rng.integers(0, size, 300) for size in RICH.sizes], axis=1)
    columns = RICH.to_columns(RICH.decode(codes, rng))
    assert list(columns) == list(RICH.columns) == list(TABLE.columns[1:])
    table = pa.table(
        {
            name: pa.array(columns[name], type=kind, from_pandas=True)
            for name, kind in RICH.columns.items()
        }
    )
    assert {name: str(kind) for name, kind in RICH.columns.items()} == {
        "sex": "string", "edema": "string", "code": "string", "shown": "string",
        "smoker": "bool", "urgent": "bool", "age": "string", "stay": "int64",
        "Dose [mSv]": "double", "visit": "date32[day]", "born": "date32[day]", "finding": "string",
    }  # fmt: skip
    row = table.slice(int(np.flatnonzero(codes[:, 7] != 2)[0]), 1).to_pylist()[0]
    assert row["age"][-1] == "Y" and len(row["age"]) == 4
    assert isinstance(row["visit"], datetime.date) and isinstance(row["stay"], int)
    assert isinstance(row["urgent"], bool)
    pq.write_table(table.append_column("patient", pa.array(range(300))), tmp_path / "t.parquet")
    frame = table.to_pandas()
    frame.insert(0, "patient", range(300))
    # In text, dates are as the schema says.
    frame["born"] = [d and f"{d:%d.%m.%Y}" for d in frame["born"]]
    frame.to_csv(tmp_path / "t.csv", index=False)
    expected = [[str(i), *row] for i, row in enumerate(codes.tolist())]
    assert records(tmp_path / "t.parquet", RICH) == (expected, {})
    assert records(tmp_path / "t.csv", RICH) == (expected, {})


def test_labels_outside_the_list_follow_the_policy(tmp_path):
    file = csv_file(tmp_path, "patient,finding\n1,mass|new\n2,\n3,clear\n4,mass|clear\n")
    for policy, expected in {
        "drop": [["3", 0], ["4", 1]],
        "ignore": [["1", 1], ["2", 0], ["3", 0], ["4", 1]],
    }.items():
        body = {"kind": "labels", "labels": ["mass"], "none": "clear", "out_of_domain": policy}
        assert records(file, schema_of({"finding": body}))[0] == expected
    body = {"kind": "labels", "labels": ["mass", "new", "clear"]}
    assert records(file, schema_of({"finding": body}))[0][1] == ["2", 0, 0, 0]


def test_ids_that_lost_their_zeros(tmp_path):
    pq.write_table(pa.table({"patient": [1, 20], "x": [0.1, 0.7]}), tmp_path / "t.parquet")
    attributes = {"x": {"kind": "numeric", "edges": [0, 0.5, 1]}}
    schema = schema_of(attributes, person_id_rule="5 digits")
    assert records(tmp_path / "t.parquet", schema)[0] == [["00001", 0], ["00020", 1]]


any_line = st.one_of(
    st.sampled_from([";".join(person) for person in PEOPLE]),
    st.lists(
        st.sampled_from(
            ['"', ";", "00001", "m", "47,5", "none", "\r", "\0", "\u00e4", " ", '""', "sep=,"]
        ),
        max_size=12,
    ).map("".join),
    st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=12),
)
LOCAL = [
    {"delimiter": ";"},
    {
        "delimiter": ";",
        "decimal": ",",
        "trailing_delimiters": True,
        "missing_values": ["47,5", "00001"],
    },
    {"delimiter": ";", "line_breaks": True, "ignore": ["note"]},
    {"delimiter": ";", "encoding": "utf-16"},
    {"delimiter": ";", "encoding": "cp1252", "quote": "none"},
]


@pytest.mark.parametrize("table", LOCAL)
@settings(max_examples=60, deadline=None)
@given(st.lists(any_line, max_size=6), any_line, st.integers(0, 6))
def test_one_line_adds_one_record_and_changes_no_other(tmp_path_factory, table, some, line, place):
    folder = tmp_path_factory.mktemp("local")
    schema = schema_of(table=table)
    head = "patient;sex;age;finding" + ";note" * ("line_breaks" in table)

    def read(rows):
        content = "\n".join([head, *rows, ""]).encode(schema.table.encoding, "replace")
        (folder / "records.csv").write_bytes(content)
        return records(folder / "records.csv", schema)[0]

    without, joined = read(some), read([*some[:place], line, *some[place:]])
    if joined != without:
        at = next(i for i in range(len(joined)) if i == len(without) or joined[i] != without[i])
        assert joined[:at] + joined[at + 1 :] == without
