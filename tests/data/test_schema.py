"""The public contract: reading schema.yaml, and cells to and from raw values."""

import copy

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.data.schema import Schema, SchemaError
from dagster_project.data.schema_rules import read_yaml, schema_faults

CONTENT = {
    "name": "toys",
    "person_id": "id",
    "n_public": 100,
    "image": {"column": "image", "channels": 1, "height": 8, "width": 8},
    "attributes": {
        "kind": {"kind": "categorical", "categories": ["ball", "doll", 3]},
        "weight": {"kind": "numeric", "edges": [0, 1, 10], "missing": True},
    },
}


def schema_with(**changes):
    content = copy.deepcopy(CONTENT)
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = content
        for key in parents:
            section = section[key]
        section[last] = value
    return Schema.from_dict(content)


def test_sizes_labels_and_midpoints():
    schema = schema_with()
    assert schema.names == ("kind", "weight")
    assert schema.sizes == (3, 3)
    assert schema.offsets == (0, 3)
    assert schema.width == 6
    kind, weight = schema.attributes
    assert kind.labels == ("ball", "doll", "3")
    assert weight.labels == ("[0, 1)", "[1, 10]", "missing")
    np.testing.assert_allclose(weight.midpoints, [0.05, 0.55])
    with pytest.raises(TypeError):
        _ = kind.midpoints


def test_round_trip_and_hash(tmp_path):
    schema = schema_with()
    assert Schema.from_dict(schema.to_dict()) == schema
    path = tmp_path / "schema.yaml"
    path.write_text(yaml.safe_dump(schema.to_dict(), sort_keys=False))
    assert Schema.from_file(path).hash == schema.hash
    assert schema_with(n_public=101).hash != schema.hash
    turned = copy.deepcopy(CONTENT)
    turned["attributes"] = dict(reversed(turned["attributes"].items()))
    assert Schema.from_dict(turned).hash != schema.hash


def test_edges_belong_to_the_bin_on_their_right_but_the_last():
    weight = schema_with().attributes[1]
    codes, keep = weight.encode(pd.Series([0, 0.999, 1, 10]))
    assert codes.tolist() == [0, 0, 1, 1]
    assert codes.dtype == np.int16
    assert keep.all()


@pytest.mark.parametrize(
    ("policy", "codes", "keep"),
    [
        ("drop", [0, 2, 2, 0, 0], [True, True, True, False, False]),
        ("clamp", [0, 2, 2, 0, 1], [True] * 5),
        ("missing", [0, 2, 2, 2, 2], [True] * 5),
    ],
)
def test_numeric_policies(policy, codes, keep):
    weight = schema_with(attributes__weight__out_of_domain=policy).attributes[1]
    raw = pd.Series(["0.5", None, "heavy", -1e300, float("inf")])
    found, kept = weight.encode(raw)
    assert kept.tolist() == keep
    assert found[kept].tolist() == [c for c, k in zip(codes, keep, strict=True) if k]


def test_numeric_values_are_clamped_and_nan_when_missing():
    weight = schema_with(attributes__weight__out_of_domain="clamp").attributes[1]
    values = weight.values(pd.Series([-5, 0.25, None, 99]))
    np.testing.assert_array_equal(values, np.float32([0, 0.25, np.nan, 10]))


def test_numeric_without_missing_drops_what_cannot_be_clamped():
    changes = {"attributes__weight__out_of_domain": "clamp", "attributes__weight__missing": False}
    weight = schema_with(**changes).attributes[1]
    codes, keep = weight.encode(pd.Series([np.nan, 99]))
    assert keep.tolist() == [False, True]
    assert codes[1] == 1


def test_categorical_policies():
    raw = pd.Series([" doll ", 3, 3.0, None, "robot"], dtype=object)
    codes, keep = schema_with().attributes[0].encode(raw)
    assert codes[:3].tolist() == [1, 2, 2]
    assert keep.tolist() == [True, True, True, False, False]
    fallback = schema_with(attributes__kind__out_of_domain="fallback:doll").attributes[0]
    assert fallback.encode(raw)[0].tolist() == [1, 2, 2, 1, 1]
    missing = schema_with(
        attributes__kind__missing=True, attributes__kind__out_of_domain="missing"
    ).attributes[0]
    assert missing.encode(raw)[0].tolist() == [1, 2, 2, 3, 3]
    assert missing.labels[-1] == "missing"


ANYTHING = st.one_of(
    st.none(),
    st.text(max_size=5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.just(10**400),
    st.dates(),
    st.datetimes(),
    st.decimals(),
    st.sampled_from(["2016-04-01", "047Y", "a|b", "|", "1,5", "TRUE", pd.NaT, pd.Timestamp(0)]),
    st.just(np.array([1.0, 2.0])),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ANYTHING, max_size=6),
    st.sampled_from(["drop", "clamp", "missing"]),
    st.sampled_from(["drop", "fallback:doll"]),
)
def test_no_value_raises_and_every_code_is_a_cell(values, numeric, categorical):
    column = pd.Series(values, dtype=object)
    schema = schema_with(
        table={"decimal": ",", "missing_values": ["NA", "-9"]},
        attributes__weight__out_of_domain=numeric,
        attributes__kind__out_of_domain=categorical,
        attributes__sold={"kind": "date", "edges": ["2000-01-01", "2020-01-01"], "missing": True},
        attributes__made={"kind": "date", "edges": ["2000-01-01", "2010-01-01", "2020-01-01"],
                          "format": "%d.%m.%y", "out_of_domain": "clamp"},
        attributes__child={"kind": "age", "unit": "months", "edges": [0, 36, 144]},
        attributes__new={"kind": "boolean"},
        attributes__parts={"kind": "labels", "labels": ["a", "b"], "ignore_case": True},
    )  # fmt: skip
    for attribute in schema.attributes:
        codes, keep = attribute.encode(column)
        assert ((codes >= 0) & (codes < attribute.size)).all()
        assert len(codes) == len(keep) == len(attribute.values(column)) == len(values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_decode_then_encode_is_the_identity(seed):
    rng = np.random.default_rng(seed)
    schema = schema_with(attributes__kind__missing=True)
    codes = np.stack([rng.integers(0, size, 50) for size in schema.sizes], axis=1)
    frame = schema.decode(codes, rng)
    assert list(frame.columns) == list(schema.names)
    for i, attribute in enumerate(schema.attributes):
        again, keep = attribute.encode(frame[attribute.name])
        assert keep.all()
        np.testing.assert_array_equal(again, codes[:, i])


def test_one_hot():
    schema = schema_with()
    hot = schema.one_hot(np.array([[2, 0], [0, 2]], dtype=np.int16))
    assert hot.dtype == np.float32
    np.testing.assert_array_equal(hot, [[0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 1]])
    with pytest.raises(ValueError, match="outside"):
        schema.one_hot(np.array([[3, 0]]))
    with pytest.raises(ValueError, match="outside"):
        schema.attributes[0].decode(np.array([-1]), np.random.default_rng(0))


def test_what_an_image_section_states_is_read_back_and_part_of_the_hash():
    stated = {
        "window": {"low": -1000, "high": 1000.5},
        "background": "black",
        "max_pixels": 90_000_000,
        "file": ["{name}.jpg", "{stem}.png", "{name:5}", "{name:lower}"],
        "separator": "\\",
        "strip_prefix": "C:\\images",
        "link_cache": "../.dvc/cache",
        "pictures_per_person": "one",
    }
    changed = schema_with(**{f"image__{key}": value for key, value in stated.items()})
    assert changed.image.window == (-1000.0, 1000.5)
    assert changed.to_dict()["image"].items() >= stated.items()
    assert Schema.from_dict(changed.to_dict()) == changed
    hashes = {schema_with(**{f"image__{key}": value}).hash for key, value in stated.items()}
    assert len(hashes) == len(stated)  # "one" is the default
    assert schema_with(image__file="{name}.jpg").image.file == ("{name}.jpg",)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"extra": 1}, "unknown key: extra"),
        ({"n_public": 0}, "n_public"),
        ({"n_public": True}, "n_public"),
        ({"public": "yes"}, "public"),
        ({"person_id": "a\nb"}, "person_id"),
        ({"person_id": "weight"}, "distinct names"),
        ({"image__channels": 2}, "channels"),
        ({"image__height": 65}, "height"),
        ({"image__depth": 8}, "unknown key: depth"),
        ({"image__window": [0, 4095]}, "window must be a mapping"),
        ({"image__window": {"low": 0}}, "lacks high"),
        ({"image__window": {"low": 5, "high": 5}}, "low must be below high"),
        ({"image__window": {"low": 0, "high": float("nan")}}, "high must be a number"),
        ({"image__background": "grey"}, "white or black"),
        ({"image__max_pixels": 10**9}, "from 4096 to 150000000"),
        ({"image__file": "a.png"}, "'a.png' is not one"),
        ({"image__file": "{name:05d}.png"}, "is not one"),
        ({"image__file": "../{name}"}, "lead out"),
        ({"image__file": []}, "one pattern or a list"),
        ({"image__separator": ";"}, "separator must be"),
        ({"image__strip_prefix": 7}, "strip_prefix must be a path"),
        ({"image__link_cache": "/"}, "below the root"),
        ({"image__pictures_per_person": "all"}, "must be one"),
        ({"attributes": {}}, "at least one attribute"),
        ({"attributes__kind": None}, "mapping"),
        ({"attributes__kind__kind": "ordinal"}, "kind must be categorical, numeric"),
        ({"attributes__kind__edges": [0, 1]}, "categorical and has an unknown key: edges"),
        ({"attributes__kind__categories": ["ball"]}, "1 cells"),
        ({"attributes__kind__categories": ["ball", "ball"]}, "twice"),
        ({"attributes__kind__categories": [True, False]}, "quote it"),
        ({"attributes__kind__categories": ["a", "b\n"]}, "printable"),
        ({"attributes__kind__out_of_domain": "clamp"}, "out_of_domain"),
        ({"attributes__kind__out_of_domain": "fallback:robot"}, "out_of_domain"),
        ({"attributes__kind__out_of_domain": "missing"}, "out_of_domain"),
        ({"attributes__weight__edges": [0, 1, 1]}, "increase"),
        ({"attributes__weight__edges": [0, float("nan")]}, "finite"),
        ({"attributes__weight__edges": [0, "1"]}, "not a number"),
        ({"attributes__weight__out_of_domain": ["drop"]}, "out_of_domain"),
        ({"attributes__weight__missing": 1}, "true or false"),
        ({"person_id_rule": "0 digits"}, "5 digits"),
        ({"table": {"delimiter": "::"}}, "table: delimiter must be one of"),
        ({"table": {"encoding": "utf-7"}}, "table: encoding must be one of"),
        ({"table": {"ignore": "others"}}, "table: ignore must be a list"),
        ({"table": {"missing_values": [True]}}, "quote them"),
        ({"table": {"missing_values": [""]}}, "empty text"),
        ({"table": {"line_breaks": True, "quote": "none"}}, "needs quotes"),
        ({"attributes__weight__column": "id"}, "distinct names"),
        ({"attributes__weight__column": "a\n"}, "printable"),
        ({"attributes__kind__aliases": {"x": "robot"}}, "is not listed"),
        ({"attributes__kind__aliases": {"doll": "ball"}}, "word of its own"),
        (
            {"attributes__kind__categories": ["a", "A"], "attributes__kind__ignore_case": True},
            "only in case",
        ),
        ({"attributes__kind__missing_values": ["3.0"]}, "also among missing_values"),
        ({"attributes__weight__integer": "yes"}, "true or false"),
        (
            {"attributes__weight": {"kind": "numeric", "edges": [0, 0.2, 0.8, 2], "integer": True}},
            "no whole number",
        ),
        (
            {"attributes__weight": {"kind": "date", "edges": ["2020-01-01", "2020-13-01"]}},
            "not a date",
        ),
        ({"attributes__weight": {"kind": "date", "edges": [2015, 2016]}}, "not a date"),
        (
            {
                "attributes__weight": {
                    "kind": "date",
                    "edges": ["2020-01-01", "2021-01-01"],
                    "format": "%Y",
                }
            },
            "day, month and year",
        ),
        ({"attributes__weight": {"kind": "age", "edges": [0, 9]}}, "lacks unit"),
        (
            {"attributes__weight": {"kind": "age", "unit": "years", "edges": [0, 9, 1000]}},
            "three digits",
        ),
        ({"attributes__weight": {"kind": "boolean", "true_values": ["0"]}}, "both true and false"),
        ({"attributes__weight": {"kind": "boolean", "out_of_domain": "clamp"}}, "fallback"),
        ({"attributes__weight": {"kind": "labels", "labels": ["a|b"]}}, "separator occurs"),
        ({"attributes__weight": {"kind": "labels", "labels": ["a/b"]}}, "the attribute of a label"),
        ({"attributes__weight": {"kind": "labels", "labels": ["a"], "none": "a"}}, "without any"),
        ({"attributes__weight": {"kind": "labels", "labels": []}}, "0 labels"),
        (
            {"attributes__weight": {"kind": "labels", "labels": ["a"], "out_of_domain": "clamp"}},
            "drop or ignore",
        ),
    ],
)
def test_refused_schemas(changes, words):
    with pytest.raises(SchemaError, match=words) as caught:
        schema_with(**changes)
    assert str(caught.value).count("\n") == 0


def test_yaml_keeps_texts_as_they_are_written(tmp_path):
    path = tmp_path / "schema.yaml"
    path.write_text(
        """
name: 0010
person_id: no
n_public: 100
table: {missing_values: [NA, null, -9], ignore: [2020, on, ""]}
image: {column: yes, channels: 1, height: 8, width: 8}
attributes:
  on: {kind: categorical, categories: [001, 010, 012, 1.0, 1:30], aliases: {08: 001, ~: 010}}
  2021: {kind: categorical, categories: [no, yes, true, 2020-01-01]}
  labels: {kind: boolean, missing: true}
  size: {kind: numeric, edges: [010, 1e2, 200.5]}
  visit: {kind: date, edges: [2020-01-01, 2021-01-01, "2022-01-01"]}
"""
    )
    schema = Schema.from_file(path)
    assert schema.names == ("on", "2021", "labels", "size", "visit")
    on, year, labels, size, visit = schema.attributes
    assert on.categories == ("001", "010", "012", "1.0", "1:30")
    assert dict(on.aliases) == {"08": "001", "~": "010"}
    assert year.categories == ("no", "yes", "true", "2020-01-01")
    assert labels.missing and schema.person_id == "no" and schema.name == "0010"
    assert size.edges == (10, 100, 200.5)
    assert visit.labels[0] == "[2020-01-01, 2021-01-01)"
    assert schema.table.missing_values == ("NA", "null", "-9")
    assert schema.table.ignore == ("2020", "on", "")


@pytest.mark.parametrize("number", ["0400", "1:30", "-012", "1:30.5"])
def test_numbers_that_yaml_reads_to_another_base_are_refused(tmp_path, number):
    path = tmp_path / "schema.yaml"
    path.write_text(f"name: a\nn_public: {number}\n")
    with pytest.raises(SchemaError, match=rf"Line 2: YAML does not read {number}"):
        Schema.from_file(path)
    path.write_text(f"attributes:\n  a: {{kind: numeric, edges: [0, {number}, {number}1]}}\n")
    content = read_yaml(path)["attributes"]["a"]["edges"]
    assert content[1] == (number if ":" in number else int(number))


@pytest.mark.parametrize("content", [None, [], "text", {}, {"attributes": 3, "image": 4}])
def test_refused_content(content):
    with pytest.raises(SchemaError):
        Schema.from_dict(content)


def test_every_fault_is_listed():
    content = copy.deepcopy(CONTENT)
    del content["name"]
    content["n_public"] = -1
    content["image"]["width"] = 1000
    content["attributes"]["kind"]["categories"] = []
    content["attributes"]["weight"]["edges"] = [1, 0]
    assert len(schema_faults(content)) == 5


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nname: b\n",
        "a: [1, 2\n",
        "? [a]\n: 1\n",
        "!!python/object/apply:os.system ['true']\n",
        "[" * 400,
        "a: 2001-99-99\n",
    ],
)
def test_files_that_are_no_schema(tmp_path, text):
    path = tmp_path / "schema.yaml"
    path.write_text(text)
    with pytest.raises(SchemaError):
        Schema.from_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemaError, match=r"schema\.yaml"):
        Schema.from_file(path)
    with pytest.raises(SchemaError, match="cannot be read"):
        Schema.from_file(tmp_path / "absent.yaml")
    with pytest.raises(SchemaError, match="cannot be read"):
        Schema.from_file(tmp_path)
