"""Reading private pairs: one per person, policies, held-out persons, hostile files."""

import os
from collections import Counter
from dataclasses import replace
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dagster_project.data import layout
from dagster_project.data.image_faults import Reason
from dagster_project.data.images import UnusableImage, decode_image, read_inside
from dagster_project.data.persons import is_held_out
from dagster_project.data.reading import ReadingError, column_faults, read_pairs
from dagster_project.data.schema import ImageSpec
from tests.data.toys import SCHEMA, bomb, columns, png, shades, write, write_csv

KEY = bytes(range(32))
GREY = ImageSpec("image", 1, 8, 8)


def read(folder, schema=SCHEMA, **settings):
    return read_pairs(folder, schema, heldout_key=settings.pop("heldout_key", None), **settings)


def test_clean_folder_is_read_in_order(tmp_path):
    folder = write(tmp_path / "data", columns(20))
    write(
        folder,
        {k: [f"h{v}" if k == "id" else v for v in c] for k, c in columns(3).items()},
        "heldout.parquet",
    )
    assert column_faults(folder, SCHEMA) == []
    told = []
    train, held_out, counts = read(folder, progress=lambda done, text: told.append((done, text)))
    assert shades(train) == list(range(20))
    assert train.codes.tolist()[:3] == [[0, 0], [1, 1], [0, 1]]
    assert train.values[1].tolist() == [1.0, 1.5]
    assert len(held_out) == 3
    assert counts.rows == 23 and counts.train == 20 and counts.reasons == {}
    done = [fraction for fraction, _ in told]
    assert done == sorted(done) and done[-1] == 1.0


def test_each_fault_follows_the_policy_and_none_raises(tmp_path):
    table = columns(
        12,
        id={0: None, 1: "  "},
        kind={2: "robot", 3: None},
        weight={4: float("nan"), 5: 1e9},
        image={
            6: None,
            7: png(7)[:-30],
            8: b"GIF89a",
            9: bomb(),
            10: png(mode="I;16"),
            11: b"x" * 1000,
        },
    )
    train, held_out, counts = read(write(tmp_path / "data", table))
    assert shades(train) == [5]
    assert train.values[0, 1] == 10.0
    assert len(held_out) == 0
    assert counts.reasons == {
        "row without a person id": 2,
        "kind: row dropped": 2,
        "weight: row dropped": 1,
        "weight: value changed": 1,
        **{
            f"image {reason}: row dropped": 1 + (reason is Reason.FORMAT)
            for reason in (
                Reason.NOT_NAMED,
                Reason.DAMAGED,
                Reason.FORMAT,
                Reason.PIXELS,
                Reason.WINDOW,
            )
        },
    }


def test_nothing_usable_gives_empty_pairs(tmp_path):
    for n, table in enumerate((columns(3, image=dict.fromkeys(range(3), b"no")), columns(0))):
        types = pa.schema(
            {"id": pa.string(), "image": pa.binary(), "kind": pa.string(), "weight": pa.float64()}
        )
        folder = tmp_path / str(n)
        folder.mkdir()
        pq.write_table(pa.table(table, schema=types), folder / "train.parquet")
        train, held_out, _ = read(folder)
        assert train.images.shape == (0, 1, 8, 8)
        assert train.codes.shape == train.values.shape == (0, 2)
        assert len(held_out) == 0


def test_one_pair_for_each_person_chosen_uniformly(tmp_path):
    table = columns(30, id={i: f"p{i // 3}" for i in range(30)})
    folder = write(tmp_path / "data", table)
    drawn = Counter()
    for _ in range(60):
        train, _, counts = read(folder)
        picked = shades(train)
        assert [shade // 3 for shade in picked] == list(range(10))
        assert counts.reasons == {"another row of the same person was chosen": 20}
        drawn.update(shade % 3 for shade in picked)
    # 600 draws: 200 expected each, standard deviation 11.5.
    assert all(130 < drawn[place] < 270 for place in range(3))


def test_an_unusable_record_never_stands_for_its_person(tmp_path):
    table = columns(4, id={0: "a", 1: "a", 2: " a", 3: "a "}, kind=dict.fromkeys((0, 1, 2), "x"))
    for _ in range(5):
        assert shades(read(write(tmp_path / "data", table))[0]) == [3]


@pytest.mark.parametrize("place", [0, 5, 10])
def test_a_new_person_adds_one_pair_at_most_and_moves_no_other(tmp_path, place):
    table = columns(10)
    before, _, _ = read(write(tmp_path / "before", table))
    new = columns(3, id=dict.fromkeys(range(3), "new"), image={0: bomb()}, weight={1: None})
    joined = {name: column[:place] + new[name] + column[place:] for name, column in table.items()}
    after, _, _ = read(write(tmp_path / "after", joined))
    assert len(after) <= len(before) + 1
    extra = len(after) - len(before)
    others = np.delete(np.arange(len(after)), slice(place, place + extra))
    for field in ("images", "codes", "values"):
        np.testing.assert_array_equal(getattr(after.take(others), field), getattr(before, field))


def test_held_out_persons_never_train(tmp_path):
    folder = write(tmp_path / "data", columns(10))
    write(folder, columns(4, kind={2: "robot"}), "heldout.parquet")
    train, held_out, counts = read(folder, heldout_key=KEY)
    assert shades(train) == [4, 5, 6, 7, 8, 9]
    assert shades(held_out) == [0, 1, 3]
    assert counts.reasons["person also held out: row dropped"] == 4


def test_keyed_split_is_by_person_and_for_good(tmp_path):
    folder = write(tmp_path / "data", columns(200))
    train, held_out, _ = read(folder, heldout_key=KEY, heldout_share=0.25)
    expected = [i for i in range(200) if is_held_out(f"p{i}", key=KEY, share=0.25)]
    assert shades(held_out) == expected
    assert sorted(shades(train) + expected) == list(range(200))
    assert 25 < len(expected) < 75
    fewer = write(tmp_path / "fewer", {k: v[50:] for k, v in columns(200).items()})
    assert shades(read(fewer, heldout_key=KEY, heldout_share=0.25)[1]) == [
        i for i in expected if i >= 50
    ]
    other = read(folder, heldout_key=KEY[::-1], heldout_share=0.25)[1]
    assert shades(other) != expected
    with pytest.raises(ValueError, match="16 bytes"):
        read(folder, heldout_key=b"short")
    with pytest.raises(ValueError, match="heldout_share"):
        read(folder, heldout_share=1.0)


def test_records_beside_a_folder_of_images(tmp_path):
    folder = write_csv(
        tmp_path / "data",
        [
            "id,image,kind,weight",
            "1,a.png,ball,0.5",
            "2,b.jpg,doll,2",
            "3,gone.png,ball,2",
            "4,../../secret.png,ball,2",
            "5,/etc/hostname,ball,2",
            "6,link.png,ball,2",
            "7,pipe,ball,2",
            "8,a.png",
            '9,a.png,"ball',
        ],
        {"a.png": png(10), "b.jpg": png(60, (30, 20), "RGB", "JPEG")},
    )
    (tmp_path / "secret.png").write_bytes(png(99))
    (folder / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "images" / "pipe")
    train, _, counts = read(folder)
    assert shades(train) == [10, 60]
    assert counts.reasons == {
        "line with a wrong number of fields: row dropped": 1,
        "line with an open or stray quote: row dropped": 1,
        f"image {Reason.NO_FILE}: row dropped": 1,
        f"image {Reason.LEAVES}: row dropped": 2,
        f"image {Reason.LINK}: row dropped": 1,
        f"image {Reason.NOT_A_FILE}: row dropped": 1,
    }


def test_images_are_named_after_their_person_by_default(tmp_path):
    lines = ["weight,kind,id", "1,ball,7", "1,ball,../7", "1,ball,8"]
    folder = write_csv(tmp_path / "data", lines, {"7.png": png(7), "8.png": png(8)})
    assert shades(read(folder)[0]) == [7, 8]


def test_whole_number_ids_and_struct_images(tmp_path):
    table = columns(5)
    table["id"] = [1, 2, None, 2, 3]
    table["image"] = [{"bytes": b, "path": None} for b in table["image"][:4]] + [None]
    train, _, counts = read(write(tmp_path / "data", table, "records.parquet"))
    assert len(train) == 2
    assert counts.reasons[f"image {Reason.NOT_NAMED}: row dropped"] == 1


@pytest.mark.parametrize("encode", [list, pa.Array.dictionary_encode])
@pytest.mark.parametrize("column", ["id", "kind"])
def test_text_that_is_not_utf8_costs_its_row_alone(tmp_path, column, encode):
    table = pa.table(columns(3))
    raw = pa.array([b"ball", b"\xff\xfe", b"doll"], pa.binary())
    broken = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2])
    broken = broken if encode is list else encode(broken)
    folder = tmp_path / "data"
    folder.mkdir()
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, broken), folder / "train.parquet")
    train, _, counts = read(folder)
    assert shades(train) == [0, 2]
    assert counts.reasons == {"cell that cannot be decoded: row dropped": 1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_csv_row_raises(tmp_path_factory, rows):
    folder = write_csv(tmp_path_factory.mktemp("csv") / "data", ["id,kind,weight"], {})
    with (folder / "records.csv").open("ab") as file:
        file.write(b"\n".join(rows) + b"\n" + b"x" * 200_000 + b",ball,1\n")
    train, held_out, _ = read(folder)
    assert len(train) == len(held_out) == 0


def faults_of(folder, **changed):
    folder.mkdir(exist_ok=True)
    table = {**columns(2), **changed}
    write(folder, {name: column for name, column in table.items() if column is not None})
    return column_faults(folder, SCHEMA)


def test_faults_that_show_without_records(tmp_path):
    assert faults_of(tmp_path / "a", kind=None) == ["train.parquet lacks the column 'kind'."]
    assert "schema lacks: ['more']" in faults_of(tmp_path / "b", more=[1, 2])[0]
    assert "type double" in faults_of(tmp_path / "c", id=[0.5, 1.5])[0]
    assert "cannot be read" in faults_of(tmp_path / "d", weight=[True, False])[0]
    assert "cannot be read" in faults_of(tmp_path / "e", image=[True, False])[0]
    assert "folder images" in faults_of(tmp_path / "f", image=["a.png", "b.png"])[0]
    assert len(faults_of(tmp_path / "g", kind=None, weight=None, more=[1, 2])) == 3


def test_files_that_are_missing_or_no_files(tmp_path):
    folder = tmp_path / "data"
    assert "no data folder" in column_faults(folder, SCHEMA)[0]
    folder.mkdir()
    assert "none" in column_faults(folder, SCHEMA)[0]
    (folder / "train.parquet").write_bytes(b"PAR1 but not really")
    assert "cannot be read as PARQUET" in column_faults(folder, SCHEMA)[0]
    write(folder, columns(2))
    (folder / "records.csv").write_text("id\n")
    assert "more than one" in column_faults(folder, SCHEMA)[0]
    (folder / "records.csv").unlink()
    (tmp_path / "link").symlink_to(folder)
    assert "symbolic link" in column_faults(tmp_path / "link", SCHEMA)[0]
    assert "'..'" in column_faults(folder / ".." / "data", SCHEMA)[0]
    (folder / "heldout.parquet").symlink_to(folder / "train.parquet")
    assert "not a link" in column_faults(folder, SCHEMA)[0]
    with pytest.raises(ReadingError, match="not a link"):
        read(folder)


def test_a_file_that_breaks_off_tells_nothing(tmp_path):
    folder = write(tmp_path / "data", columns(40))
    path = folder / "train.parquet"
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(bytes(content))
    with pytest.raises(ReadingError) as caught:
        read(folder)
    assert str(caught.value) == "The data files cannot be read to the end."
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_footer_that_leads_beyond_the_file_is_refused_before_a_record_is_read(tmp_path):
    folder = write(tmp_path / "data", columns(40))
    path = folder / "train.parquet"
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    path.write_bytes(b"PAR1" + content[-footer:])
    (fault,) = column_faults(folder, SCHEMA)
    assert fault == "train.parquet is damaged: its footer refers to places outside the file."


def test_a_compression_that_cannot_be_undone_is_refused_before_a_record_is_read(
    tmp_path, monkeypatch
):
    folder = write(tmp_path / "data", columns(4))
    monkeypatch.setattr(layout, "_COMPRESSIONS", ("ZSTD",))
    assert column_faults(folder, SCHEMA) == [
        "train.parquet is compressed as SNAPPY, which cannot be read."
    ]


def test_csv_headers(tmp_path):
    folder = write_csv(tmp_path / "data", ["id,kind,weight,kind"], {})
    assert "twice" in column_faults(folder, SCHEMA)[0]
    (folder / "records.csv").write_bytes(b"\xef\xbb\xbfid,kind,weight\r\n1,ball,2\r\n")
    (folder / "images" / "1.png").write_bytes(png(4))
    assert column_faults(folder, SCHEMA) == []
    assert shades(read(folder)[0]) == [4]
    (folder / "records.csv").write_bytes(b"\xff\xfe\x00")
    assert "is encoded as UTF-16" in column_faults(folder, SCHEMA)[0]
    (folder / "records.csv").write_bytes(b"")
    assert "is empty" in column_faults(folder, SCHEMA)[0]
    for forgotten in (b"1,ball,secret\n", b"id,kind,weight\r1,ball,secret"):
        (folder / "records.csv").write_bytes(forgotten)
        assert "secret" not in " ".join(column_faults(folder, SCHEMA))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,kind,weight\n1,ball,2\n".encode("utf-16"), "encoding: utf-16"),
        ("id,kind,weight\n1,ball,2\n".encode("utf-16-be"), "encoding: utf-16"),
        ("id,kind,weight\n1,ball,2\n".encode("utf-32"), "carriage return, a NUL"),
        (b"id,kind,weight\r1,ball,2\r", "carriage returns alone"),
        (b"id,kind,weight\r1,b\xe4ll,2\r" * 10_000, "carriage returns alone"),
        ("id,kind,größe\n".encode("cp1252"), "encoding: cp1252"),
        (b'id,kind,"weight\n1,ball,2\n', "open or stray quote"),
        (b"x" * 200_000 + b"\n", "too long"),
    ],
)
def test_the_encoding_of_a_csv_file_is_decided_by_its_first_line(tmp_path, content, words):
    folder = write_csv(tmp_path / "data", [], {})
    (folder / "records.csv").write_bytes(content)
    (fault,) = column_faults(folder, SCHEMA)
    assert words in fault
    with pytest.raises(ReadingError, match=words):
        read(folder)


def test_images_are_cropped_to_the_centre_and_converted():
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200
    buffer = BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    assert (decode_image(buffer.getvalue(), ImageSpec("image", 1, 8, 8)) > 190).all()
    colour = decode_image(buffer.getvalue(), ImageSpec("image", 3, 8, 24))
    assert colour.shape == (3, 8, 24)
    assert (colour[0] == colour[2]).all()
    for mode in ("1", "P", "LA", "RGBA", "RGB"):
        assert decode_image(png(1, (9, 9), mode), GREY).shape == (1, 8, 8)
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    buffer = BytesIO()
    clear.save(buffer, "PNG")
    assert (decode_image(buffer.getvalue(), GREY) == 255).all()


def test_pixel_limits_hold_before_decoding():
    assert len(bomb()) < 12_000 and GREY.max_pixels < 9000**2
    for side in (6400, 9000, 20_000):
        with pytest.raises(UnusableImage, match="too many pixels"):
            decode_image(bomb(side), GREY)
    small = replace(GREY, max_pixels=100)
    assert decode_image(png(7, (10, 10)), small).mean() == 7
    with pytest.raises(UnusableImage, match="too many pixels"):
        decode_image(png(7, (11, 10)), small)
    with pytest.raises(UnusableImage, match="too many bytes"):
        decode_image(bytes(2**20 + 401), small)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.binary(max_size=8))
def test_damaged_images_raise_one_kind_of_error(place, junk):
    content = png(7, (12, 12), "RGB")
    place %= len(content)
    try:
        array = decode_image(content[:place] + junk + content[place + 4 :], GREY)
    except UnusableImage:
        return
    assert array.shape == (1, 8, 8) and array.dtype == np.uint8


def test_names_stay_in_their_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"a")
    (tmp_path / "out.png").write_bytes(b"out")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    assert read_inside(tmp_path / "in", "./a.png") == b"a"
    for name in (
        "../out.png",
        "loop/out.png",
        "/etc/hostname",
        "..\\out.png",
        "a\0",
        "",
        ".",
        None,
        "x" * 5000,
        "a.png/b",
        "\ud800",
        "a/../../out.png",
    ):
        with pytest.raises(UnusableImage):
            read_inside(tmp_path / "in", name)
