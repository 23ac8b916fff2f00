"""Lines of text files: cut at line feeds alone, each parsed by itself."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.data.lines import (
    CONTROL,
    LINE_LIMIT,
    NOT_ENCODED,
    NOT_UTF8,
    QUOTE,
    TOO_LONG,
    WIDTH,
    csv_fields,
    csv_header,
    csv_rows,
    text_lines,
)

OTHER_BREAKS = "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b"  # of `str.splitlines`


def lines_of(tmp_path, content):
    (tmp_path / "file.csv").write_bytes(content)
    return list(text_lines(tmp_path / "file.csv"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"a,b\r", "a,b"),
        (b"a\rb", CONTROL),
        (b"a\r\r", "a"),
        (b"a\r\rb\r", CONTROL),
        (b"a\0", CONTROL),
        (b"\xef\xbb\xbfa", CONTROL),
        (b"a\xef\xbb\xbf", CONTROL),
        (b"\xff\xfea\0", CONTROL),
        ("größe".encode("cp1252"), NOT_UTF8),
        (b"\xed\xa0\x80", NOT_UTF8),
        (b"\xff\xfe", NOT_UTF8),
        (
            "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b".encode(),
            "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b",
        ),
        (b"x" * LINE_LIMIT, "x" * LINE_LIMIT),
        (b"x" * (LINE_LIMIT + 1), TOO_LONG),
        (b"x" * LINE_LIMIT + b"\ryz", TOO_LONG),
        (b"x\r" * LINE_LIMIT, CONTROL),
        (b"x" * (3 * LINE_LIMIT + 2), TOO_LONG),
    ],
)
def test_what_a_line_is(tmp_path, line, text):
    between = lines_of(tmp_path, b"first\n" + line + b"\nlast")
    assert between == [(1, "first"), (2, text), (3, "last")]
    assert lines_of(tmp_path, b"first\n" + line) == [(1, "first"), (2, text)]


def test_empty_lines_are_no_rows_but_count(tmp_path):
    assert lines_of(tmp_path, b"a\n\n\r\nb\n\n") == [(1, "a"), (4, "b")]
    assert lines_of(tmp_path, b"\na") == [(1, ""), (2, "a")]
    assert lines_of(tmp_path, b"") == []


def test_a_mark_before_the_file_is_no_part_of_its_first_line(tmp_path):
    assert lines_of(tmp_path, b"\xef\xbb\xbfa\nb") == [(1, "a"), (2, "b")]
    assert csv_header(tmp_path / "file.csv") == ["a"]


def utf16_lines(tmp_path, content):
    (tmp_path / "file.csv").write_bytes(content)
    return list(text_lines(tmp_path / "file.csv", "utf-16"))


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("a,b\r", "a,b"),
        ("\u0a0a\u0a00\u000b\u0d0d\u010a", "\u0a0a\u0a00\u000b\u0d0d\u010a"),
        ("a\rb", CONTROL),
        ("a\0", CONTROL),
        ("a\ufeff", CONTROL),
        ("\ud800", NOT_ENCODED),
        ("x" * (LINE_LIMIT // 2), "x" * (LINE_LIMIT // 2)),
        ("x" * (LINE_LIMIT // 2 + 1), TOO_LONG),
        ("x" * (3 * LINE_LIMIT), TOO_LONG),
        ("\U0001f600" * LINE_LIMIT, TOO_LONG),
    ],
)
def test_lines_of_two_byte_units(tmp_path, codec, line, text):
    content = f"\ufefffirst\n{line}\n\nlast".encode(codec, "surrogatepass")
    assert utf16_lines(tmp_path, content) == [(1, "first"), (2, text), (4, "last")]


def test_half_a_unit_at_the_end_breaks_the_last_line_alone(tmp_path):
    content = "\ufeffa\nb\nc".encode("utf-16-le") + b"d"
    assert utf16_lines(tmp_path, content) == [(1, "a"), (2, "b"), (3, NOT_ENCODED)]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=9), min_size=1))
def test_fields_are_those_of_the_csv_module_however_they_were_quoted(fields):
    for quoting in (csv.QUOTE_ALL, csv.QUOTE_MINIMAL):
        text = io.StringIO()
        csv.writer(text, quoting=quoting, lineterminator="").writerow(fields)
        assert csv_fields(text.getvalue()) == fields


@given(st.text('",ab', max_size=30))
def test_a_quote_stands_around_a_field_or_doubled_within(text):
    found = csv_fields(text)
    first, *rest = text.split('"')[::2]  # what stands outside of quotes
    *between, last = rest or [","]
    sound = text.count('"') % 2 == 0 and first[-1:] in ("", ",") and last[:1] in ("", ",")
    sound = sound and all(b == "" or b[0] == b[-1] == "," for b in between)
    assert isinstance(found, list) == (sound or '"' not in text)
    if isinstance(found, list) and text:
        assert [found] == list(csv.reader([text], strict=True))


@pytest.mark.parametrize("text", ['"', 'a"', 'a"b"', '"a"b', '"a" ,b', ' "a"', '"a""', '"a,b'])
def test_open_and_stray_quotes(text):
    assert csv_fields(text) == QUOTE


def test_the_first_line_says_how_many_fields_there_are(tmp_path):
    (tmp_path / "file.csv").write_bytes(b'a,b\n1,2\n1\n1,2,3\n"1,2\n"1,2",3\n')
    assert [row for _, row in csv_rows(tmp_path / "file.csv")] == [
        ["a", "b"], ["1", "2"], WIDTH, WIDTH, QUOTE, ["1,2", "3"],
    ]  # fmt: skip


def test_a_line_without_end_is_not_held_in_memory(tmp_path):
    import tracemalloc

    path = tmp_path / "file.csv"
    with path.open("wb") as file:
        file.write(b"id,kind\n")
        for _ in range(40):
            file.write(b"x" * 2**20)
    tracemalloc.start()
    assert [row for _, row in csv_rows(path)] == [["id", "kind"], TOO_LONG]
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()
