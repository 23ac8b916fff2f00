"""Whatever a line of an archive's lists holds, it is one row, and it changes no other."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.cli import main as cli
from dagster_project.data.lines import LINE_LIMIT, BrokenRow
from dagster_project.importers.archive import ImportRequest, Row
from dagster_project.importers.registry import open_archive
from tests.importers import archives

# Each list of each archive, and how many lines of it are a header.
LISTS = {
    ("celeba", "Anno/list_attr_celeba.txt"): 2,
    ("celeba", "Anno/identity_CelebA.txt"): 0,
    ("chestxray14", "Data_Entry_2017.csv"): 1,
    ("deepfashion", "labels/shape/shape_anno_all.txt"): 0,
    ("deepfashion", "labels/texture/fabric_ann.txt"): 0,
}
ATTRIBUTES = {"deepfashion": ("hat", "denim")}
TABLES = {"rows.csv": 1, "rows.jsonl": 0}

pieces = st.sampled_from(
    [b'"', b",", b" ", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe4", b"1", b"-1",
     b"\xc2\xb2", b"000001.jpg", b"x.png", b"id_00000000", b"9" * 5000, b"x" * (LINE_LIMIT + 1)]
)  # fmt: skip
junk = st.one_of(
    st.lists(pieces, max_size=8).map(b"".join),
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")),
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("archives")
    names = ("celeba", "chestxray14", "deepfashion")
    return {name: getattr(archives, name)(root / name, 9) for name in names}


def rows_of(name: str, source: Path, request: ImportRequest | None = None) -> Counter:
    request = request or ImportRequest(unit="person", attributes=ATTRIBUTES.get(name))
    rows = open_archive(name, source, request).rows()
    return Counter(
        row
        if isinstance(row, BrokenRow)
        else (row.person, repr(row.record), repr(row.image), row.part)
        for row in rows
    )


@contextmanager
def other_content(file: Path, lines: list[bytes]) -> Iterator[None]:
    before = file.read_bytes()
    try:
        file.write_bytes(b"\n".join(lines))
        yield
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(("name", "file"), LISTS)
@settings(max_examples=60, deadline=None)
@given(line=junk, place=st.integers(0, 9), cut=st.integers(0, 60), whole=st.booleans())
def test_one_line_of_a_list_is_one_row(sources, name, file, line, place, cut, whole):
    source = sources[name]
    lines = (source / file).read_bytes().split(b"\n")
    place += LISTS[name, file]
    if whole:  # a line of the list, with the junk within it
        line = lines[min(place, len(lines) - 2)][:cut] + line
    before = rows_of(name, source)
    with other_content(source / file, [*lines[:place], line, *lines[place:]]):
        after = rows_of(name, source)
    assert (after - before).total() <= 1 and (before - after).total() <= 1
    gone = {row[0] for row in before - after if not isinstance(row, BrokenRow)}
    come = {row[0] for row in after - before if not isinstance(row, BrokenRow)}
    assert len(gone | come) <= 1
    if LISTS[name, file]:
        assert not gone


@pytest.mark.parametrize("file", TABLES)
@settings(max_examples=60, deadline=None)
@given(line=junk, place=st.integers(0, 9), cut=st.integers(0, 60), whole=st.booleans())
def test_one_line_of_a_table_is_one_row(sources, file, line, place, cut, whole):
    """With columns out of file names, and texts that mean "absent"."""
    source = sources["celeba"].parent / file
    rows = [{"image": f"p{i}_{i}.png", "sex": "fm"[i % 2], "age": str(i)} for i in range(9)]
    lines = [json.dumps(row).encode() for row in rows]
    if file == "rows.csv":
        lines = [b"image,sex,age", *(",".join(row.values()).encode() for row in rows)]
    request = ImportRequest(
        file_column="image",
        name_pattern="^(?P<person>p[0-9]+)_",
        person_id="person",
        categories=(("sex", ("f", "m")),),
        edges=(("age", (0, 5, 10)),),
        missing_values=("-1", "x.png"),
    )
    place += TABLES[file]
    if whole:
        line = lines[min(place, len(lines) - 1)][:cut] + line
    source.write_bytes(b"\n".join(lines))
    before = rows_of("table", source, request)
    source.write_bytes(b"\n".join([*lines[:place], line, *lines[place:]]))
    after = rows_of("table", source, request)
    assert not before - after and (after - before).total() <= 1


def test_broken_lines_are_counted_by_reason(tmp_path, capsys):
    source = archives.chestxray14(tmp_path / "source", 20)
    with (source / "Data_Entry_2017.csv").open("ab") as file:
        file.write(
            b'1_0.png,"Mass,0,1,058Y,M,PA,1,1,1,1,\nshort\n\xe4\n,,,,,,,,,,,\n1.png,,,,,,,,,,,\n'
        )
    out = tmp_path / "data"
    assert cli.main(["import", "chestxray14", str(source), str(out), "--unit", "person"]) == 0
    told = capsys.readouterr().out
    for reason in (
        "line with an open or stray quote",
        "line with a wrong number of fields",
        "line that is not UTF-8",
        "line that names no image",
        "line that names no patient",
    ):
        assert f"1 left out: {reason}" in told


def test_a_image_of_two_identities_is_left_out(tmp_path):
    source = archives.celeba(tmp_path / "source", 9)
    listed = source / "Anno" / "identity_CelebA.txt"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join([*lines[1:], "000002.jpg 1"]))
    rows = list(open_archive("celeba", source, ImportRequest(unit="person")).rows())
    assert [isinstance(row, BrokenRow) for row in rows] == [True, True] + 7 * [False]
    assert rows[0].reason == "image without exactly one identity"


def test_file_names_that_are_no_text_cost_their_row_alone(tmp_path, capsys):
    source = archives.imagefolder(tmp_path / "source", 20)
    one = next((source / "train" / "cat").iterdir())
    one.rename(os.fsdecode(os.fsencode(one.parent) + b"/\xff.png"))
    out = tmp_path / "data"
    assert cli.main(["import", "imagefolder", str(source), str(out), "--n-public", "20"]) == 0
    assert "1 left out: text that cannot be written as UTF-8" in capsys.readouterr().out
    assert len(pd.read_parquet(out / "train.parquet")) == 11


@pytest.mark.parametrize("column", ["source", "image"])
def test_a_cell_that_is_not_utf8_costs_its_row_alone(tmp_path, capsys, column):
    source = archives.huggingface_parquet(tmp_path / "source", 20)
    file = source / "data" / "train-00000-of-00002.parquet"
    table = pq.read_table(file)
    raw = pa.array([b"\xff", *(b"%d" % i for i in range(9))], pa.binary()).buffers()
    texts = pa.StringArray.from_buffers(10, raw[1], raw[2])
    if column == "image":
        image = table["image"].combine_chunks()
        texts = pa.StructArray.from_arrays([image.field("bytes"), texts], ["bytes", "path"])
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, table.schema.field(column), texts), file)
    out = tmp_path / "data"
    command = ["import", "huggingface", str(source), str(out), "--n-public", "20"]
    assert cli.main([*command, "--person-id", "source"]) == 0
    assert "1 left out: cell that cannot be decoded" in capsys.readouterr().out
    assert len(pd.read_parquet(out / "train.parquet")) == 19


def test_a_thousand_unusable_rows_do_not_end_an_import(tmp_path):
    """Else one usable row among the first would decide whether the later ones are read."""
    source = archives.celeba(tmp_path / "source", 9)
    listed = source / "Anno" / "list_attr_celeba.txt"
    first, second, *lines = listed.read_text().splitlines()
    missing = [f"{i}.jpg" + " 1" * 40 for i in range(1200)]
    listed.write_text("\n".join([first, second, *missing, *lines]))
    assert cli.main(["import", "celeba", str(source), str(tmp_path / "data")]) == 0
    people = pd.read_parquet(tmp_path / "data" / "train.parquet")["person"]
    rows = open_archive("celeba", source, ImportRequest()).rows()
    train = {row.person for row in rows if isinstance(row, Row) and row.part == "train"}
    assert set(people) == {person for person in train if len(person) == len("000001.jpg")}
