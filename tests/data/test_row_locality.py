"""One line, one row: whatever a line holds, it changes the pair of at most the person it names."""

import shutil
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dagster_project.data import reading, rows
from dagster_project.data.lines import LINE_LIMIT
from dagster_project.data.reading import read_pairs
from tests.data.toys import SCHEMA, columns, png, shades, write, write_csv

HEADER = b"id,image,kind,weight"
KEY = bytes(range(32))
POOL = [str(i) for i in range(8)]

sound_lines = st.builds(
    lambda person, kind, weight: f"{person},a.png,{kind},{weight}".encode(),
    st.sampled_from(POOL),
    st.sampled_from(["ball", "doll", "robot", '"ball"']),
    st.integers(0, 999).map(lambda n: n / 100),
)
pieces = st.sampled_from(
    [b'"', b'""', b",", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xff\xfe", b"\xe4", b"a.png",
     b"ball", b"1", b"2", b" ", b"\xc2\x85", b"\xe2\x80\xa8", b"1,a.png,ball,1",
     b"x" * (LINE_LIMIT + 1)]
)  # fmt: skip
any_line = st.one_of(
    sound_lines,
    st.lists(pieces, max_size=8).map(b"".join),
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")),
    st.builds(lambda a, b, n: a[:n] + b + a[n:], sound_lines, pieces, st.integers(0, 20)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("rows") / "data", [], {"a.png": png(9)})


def pairs_of(folder, lines, ending=b"\n"):
    """The persons and the pairs (person unknown) of a file of these lines."""
    (folder / "records.csv").write_bytes(ending.join([HEADER, *lines]))
    told = []

    def admit(people, held_out):
        told.append((Counter(people), Counter(held_out)))
        return reading.np.ones(len(people), dtype=bool)

    # Of several rows of a person the first is taken, so that only rows can make a difference.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading.os, "urandom", bytes)
        parts = read_pairs(folder, SCHEMA, heldout_key=KEY, heldout_share=0.3, admit=admit)[:2]
    pairs = [
        Counter(zip(map(bytes, p.images), map(bytes, p.codes), map(bytes, p.values), strict=True))
        for p in parts
    ]
    return told[0], pairs


def differences(before, after):
    return [(a - b).total() for a, b in zip(before, after, strict=True)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(sound_lines, sound_lines, any_line), max_size=7),
    any_line,
    st.integers(0, 7),
    st.sampled_from([b"\n", b"\r\n"]),
)
@example([b"1,a.png,ball,1", b"2,a.png,ball,2"], b'3,a.png,"ball', 0, b"\n")
@example([b'1,a.png,"ball', b'2,a.png,"ball,2'], b'3,a.png,"ball"', 1, b"\n")
@example([b"1,a.png,ball,1", b"2,a.png,ball,2"], b"\xff\xfe1,\0", 0, b"\n")
@example([b"1,a.png,ball,1", b"2,a.png,ball,2"], b"1,a.png\r3,a.png,ball,2", 0, b"\r\n")
@example([b"1,a.png,ball,1\r"], b"", 0, b"\r\n")
def test_one_line_changes_the_pair_of_one_person(folder, lines, line, place, ending):
    place = min(place, len(lines))
    without = pairs_of(folder, lines, ending)
    # A file that ends in an empty line has none there.
    joined = pairs_of(folder, [*lines[:place], line, *lines[place:], b""], ending)
    for before, after in zip(without, joined, strict=True):
        # At most one pair or person comes and at most one goes, training and held out together.
        assert sum(differences(after, before)) <= 1
        assert sum(differences(before, after)) <= 1
    people, with_line = (part[0] + part[1] for part in (without[0], joined[0]))
    assert not people - with_line  # and nobody goes for a row that comes
    if line.isascii() and line[:1].isdigit():
        assert set(with_line - people) <= {line.split(b",")[0].decode().strip()}


@settings(max_examples=100, deadline=None)
@given(st.lists(any_line, min_size=1, max_size=6), any_line, st.integers(0, 5))
def test_one_line_in_place_of_another_changes_the_pairs_of_two(folder, lines, line, place):
    place = min(place, len(lines) - 1)
    before = pairs_of(folder, lines)
    after = pairs_of(folder, [*lines[:place], line, *lines[place + 1 :]])
    for a, b in zip(before, after, strict=True):
        assert sum(differences(a, b)) <= 2 and sum(differences(b, a)) <= 2


@pytest.mark.parametrize(
    "line",
    [
        b'3000,m,"shadow left lung',
        b"3000,m,shadow\rleft lung",
        b"3000,m,\0",
        b"\xef\xbb\xbf3000,m,shadow",
        b"3000,m,M\xfcller",
        b"x" * 1_000_000,
    ],
)
def test_a_broken_line_before_three_thousand_rows_costs_itself_alone(tmp_path, line):
    lines = ["id,kind,weight", *(f"{i},ball,{i % 10}" for i in range(2999))]
    folder = write_csv(tmp_path / "data", lines, {})
    for i in range(2999):
        (folder / "images" / f"{i}.png").hardlink_to(_image(tmp_path))
    head, rest = (folder / "records.csv").read_bytes().split(b"\n", 1)
    (folder / "records.csv").write_bytes(b"\n".join([head, line, rest]))
    train, _, counts = read_pairs(folder, SCHEMA, heldout_key=None)
    assert len(train) == 2999
    assert counts.rows == 3000 and sum(counts.reasons.values()) == 1


def _image(folder):
    path = folder / "picture.png"
    if not path.exists():
        path.write_bytes(png(5))
    return path


def test_who_else_is_there_does_not_change_which_row_is_chosen(tmp_path):
    """Two rows of a person each come in half of the draws, whoever else has however many rows."""
    for name, others in (("alone", 0), ("before", 1), ("crowd", 40)):
        ids = {i: "p" if i in (others, others + 1) else f"q{i // 5}" for i in range(2 * others + 2)}
        folder = write(tmp_path / name, columns(2 * others + 2, id=ids))
        first = 0
        for _ in range(200):
            first += others in shades(read_pairs(folder, SCHEMA, heldout_key=None)[0])
        # 200 draws: 100 expected, standard deviation 7.1.
        assert 64 < first < 136


def test_rows_of_parquet_lists_are_read_one_by_one():
    """Arrow refuses lists of more than 2 GiB in one batch as well: one row of labels would do."""
    kinds = pa.schema([("id", pa.string()), ("labels", pa.list_(pa.string()))])
    assert rows.one_by_one(kinds, ["id", "labels"]) and not rows.one_by_one(kinds, ["id"])


def test_rows_of_parquet_structs_are_read_one_by_one(tmp_path, monkeypatch):
    """Arrow refuses structs of more than 2 GiB in one batch: nobody's picture may add up to it."""
    table = columns(5)
    table["image"] = [{"bytes": b, "path": None} for b in table["image"]]
    folder = write(tmp_path / "data", table)
    sizes = []
    plain = pq.ParquetFile.iter_batches

    def spy(self, batch_size, **more):
        sizes.append((more["columns"], batch_size))
        return plain(self, batch_size=batch_size, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert shades(read_pairs(folder, SCHEMA, heldout_key=None)[0]) == [0, 1, 2, 3, 4]
    assert sizes == [(["id", "kind", "weight"], rows.BATCH), (["image"], 1)]


@pytest.mark.parametrize("place", [0, 3, 9])
def test_a_parquet_row_that_cannot_be_decoded_changes_nobody_else(tmp_path, place):
    table = columns(10)
    before = read_pairs(write(tmp_path / "before", table), SCHEMA, heldout_key=None)[0]
    raw = [name.encode() for name in table["id"]]
    raw.insert(place, b"\xff")
    buffers = pa.array(raw, pa.binary()).buffers()
    ids = pa.StringArray.from_buffers(11, buffers[1], buffers[2])
    joined = {name: column[:place] + column[:1] + column[place:] for name, column in table.items()}
    after = read_pairs(write(tmp_path / "after", {**joined, "id": ids}), SCHEMA, heldout_key=None)
    assert shades(after[0]) == shades(before)
    assert after[2].reasons == {"cell that cannot be decoded: row dropped": 1}


def test_a_damaged_page_ends_in_the_same_sentence_whoever_is_hit(tmp_path):
    folder = write(tmp_path / "data", columns(40))
    content = (folder / "train.parquet").read_bytes()
    metadata = pq.read_metadata(folder / "train.parquet")
    told = set()
    for group in range(metadata.num_row_groups):
        column = metadata.row_group(group).column(1)
        hit = bytearray(content)
        end = column.data_page_offset + column.total_compressed_size
        hit[column.data_page_offset : end] = bytes(end - column.data_page_offset)
        other = tmp_path / str(group)
        shutil.copytree(folder, other)
        (other / "train.parquet").write_bytes(bytes(hit))
        with pytest.raises(reading.ReadingError) as caught:
            read_pairs(other, SCHEMA, heldout_key=None)
        told.add(str(caught.value))
    assert told == {"The data files cannot be read to the end."}
