"""From a row to its file: names by the public schema, links into the declared cache alone."""

import errno
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.data.image_faults import Reason
from dagster_project.data.image_files import file_name, read_inside
from dagster_project.data.image_rules import REQUIRED, RULES
from dagster_project.data.images import UnusableImage
from dagster_project.data.layout import column_faults
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import ImageSpec, Schema
from tests.data.toys import SCHEMA, columns, png, shades, write, write_csv

SPEC = ImageSpec("image", 1, 8, 8)
HEADER = "id,image,kind,weight"


def schema(**image):
    content = SCHEMA.to_dict()
    return Schema.from_dict({**content, "image": {**content["image"], **image}})


def read(folder, **image):
    train, _, counts = read_pairs(folder, schema(**image), heldout_key=None)
    return shades(train), counts.reasons


@pytest.mark.parametrize(
    "cell, on_disk, image",
    [
        ("a.png", "a.PNG", {}),
        ("a.PNG", "a.png", {}),
        ("a.JPG", "a.jpg", {}),
        (unicodedata.normalize("NFC", "Zoë.png"), unicodedata.normalize("NFD", "Zoë.png"), {}),
        (unicodedata.normalize("NFD", "Zoë.png"), unicodedata.normalize("NFC", "Zoë.PNG"), {}),
        (" a.png ", "a.png", {}),
        ("ISIC_0024306", "ISIC_0024306.jpg", {"file": "{name}.jpg"}),
        ("1.2.840.5", "1.2.840.5.dcm", {"file": "{name}.dcm"}),
        ("a", "a.JPEG", {"file": ["{name}.png", "{name}.jpeg"]}),
        ("scan.dcm", "scan.png", {"file": "{stem}.png"}),
        ("a.png", "a", {"file": "{stem}"}),
        ("7", "00007.png", {"file": "{name:5}.png"}),
        ("CR001", "cr001.dcm", {"file": "{name:lower}.dcm"}),
        ("cr001.dcm", "CR001.DCM", {"file": "{name:upper}"}),
        ("7", "p/7/front.png", {"file": "p/{name}/front.png"}),
        ("/data/images/a.png", "a.png", {"strip_prefix": "/data/images"}),
        ("/data/images/a.png", "a.png", {"strip_prefix": "/data/images/"}),
        ("set/train/b/a.png", "b/a.png", {"strip_prefix": "set/train"}),
        ("sub\\a.png", "sub/a.png", {"separator": "\\"}),
        ("C:\\x\\a.png", "a.png", {"separator": "\\", "strip_prefix": "C:\\x"}),
    ],
)
def test_names_lead_to_their_files(tmp_path, cell, on_disk, image):
    folder = write_csv(tmp_path / "data", [HEADER, f"1,{cell},ball,1"], {})
    place = folder / "images" / on_disk
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(png(77))
    assert read(folder, **image) == ([77], {})


@pytest.mark.parametrize(
    "cell, image, expected",
    [
        ("a", {}, Reason.NO_FILE),
        ("/etc/a.png", {"strip_prefix": "/data"}, Reason.LEAVES),
        ("/data/../a.png", {"strip_prefix": "/data"}, Reason.LEAVES),
        ("/database/a.png", {"strip_prefix": "/data"}, Reason.LEAVES),
        ("..\\a.png", {"separator": "\\"}, Reason.LEAVES),
        ("sub\\a.png", {}, Reason.BACKSLASH),
        ("../a", {"file": "{name}.png"}, Reason.LEAVES),
        ("", {}, Reason.NOT_NAMED),
        ("A.png", {}, Reason.NO_FILE),  # another name, unless the schema says lower
    ],
)
def test_names_that_lead_nowhere_name_the_cause(tmp_path, cell, image, expected):
    folder = write_csv(tmp_path / "data", [HEADER, f"1,{cell},ball,1"], {"a.png": png(7)})
    (folder / "a.png").write_bytes(png(9))
    assert read(folder, **image) == ([], {f"image {expected}: row dropped": 1})


def test_an_exact_name_comes_first(tmp_path):
    for name in ("a.png", "a.PNG", "b.PNG"):
        (tmp_path / name).touch()
    for name in ("a.png", "a.PNG", "b.PNG"):
        assert file_name(tmp_path, name, SPEC, pattern="{name}") == name
    assert file_name(tmp_path, "b.png", SPEC, pattern="{name}") == "b.PNG"
    assert file_name(tmp_path, "c.png", SPEC, pattern="{name}") == "c.png"
    assert file_name(tmp_path, None, SPEC, pattern="{name}") is None


@pytest.mark.parametrize(
    "column", [None, [3, 4], [3.0, None], pa.array(["3", "4"]).dictionary_encode()]
)
def test_numbers_in_parquet_are_names(tmp_path, column):
    """Integers lose their zeros, and become floats where one is absent."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for i in (3, 4):
        (folder / "images" / f"000{i}.png").write_bytes(png(i))
    table = {**columns(2), "id": [3, 4], "image": column}
    write(folder, {k: v for k, v in table.items() if v is not None}, "records.parquet")
    expected = [3, 4] if not isinstance(column, list) or None not in column else [3]
    assert read(folder, file="{name:4}.png")[0] == expected


def test_a_csv_file_and_a_parquet_file_of_one_table_give_the_same_pairs(tmp_path):
    files = {f"{i:03}.png": png(i) for i in range(5)}
    lines = ["id,kind,weight", *(f"{i},ball,{i}" for i in range(5))]
    text = write_csv(tmp_path / "csv", lines, files)
    binary = tmp_path / "parquet"
    shutil.copytree(text / "images", binary / "images")
    table = {"id": list(range(5)), "kind": ["ball"] * 5, "weight": [float(i) for i in range(5)]}
    pq.write_table(pa.table(table), binary / "records.parquet")
    spec = {"file": "{name:3}.png"}
    assert read(text, **spec) == read(binary, **spec) == ([0, 1, 2, 3, 4], {})


@pytest.fixture
def linked(tmp_path):
    """A data folder as DVC leaves it with cache.type symlink, records and all."""
    cache = tmp_path / ".dvc" / "cache" / "files" / "md5" / "ab"
    cache.mkdir(parents=True)
    lines = [HEADER, "1,a.png,ball,1", "2,b.png,ball,1"]
    folder = write_csv(tmp_path / "data", lines, {})
    shutil.move(folder / "records.csv", cache / "records")
    (folder / "records.csv").symlink_to(cache / "records")
    for name, shade in (("a", 5), ("b", 6)):
        (cache / name).write_bytes(png(shade))
        (folder / "images" / f"{name}.png").symlink_to(f"../../.dvc/cache/files/md5/ab/{name}")
    return folder


def test_links_lead_into_the_declared_cache(linked):
    assert read(linked, link_cache="../.dvc/cache") == ([5, 6], {})
    assert read(linked, link_cache=str(linked.parent / ".dvc" / "cache")) == ([5, 6], {})
    (fault,) = column_faults(linked, SCHEMA)
    assert "records.csv must be a plain file, not a link (image.link_cache" in fault
    (fault,) = column_faults(linked, schema(link_cache="../other"))
    assert "not a link" in fault


def test_no_link_leads_anywhere_else(linked):
    images, secret = linked / "images", linked.parent / "secret.png"
    secret.write_bytes(png(9))
    inner = linked.parent / ".dvc" / "cache" / "files"
    cache = linked.parent / ".dvc" / "cache"
    (images / "a.png").unlink()
    for target in (secret, cache / ".." / ".." / "secret.png", inner / "out", images / "b.png"):
        (images / "a.png").symlink_to(target)
        (inner / "out").unlink(missing_ok=True)
        (inner / "out").symlink_to(secret)
        with_b = target == images / "b.png"  # two links, the last of which ends in the cache
        expected = {} if with_b else {f"image {Reason.LINK_OUTSIDE}: row dropped": 1}
        assert read(linked, link_cache="../.dvc/cache")[1] == expected
        (images / "a.png").unlink()
    for target in (images / "a.png", images / "gone.png", inner):  # a loop, nothing, a folder
        (images / "a.png").symlink_to(target)
        assert read(linked, link_cache="../.dvc/cache")[0] == [6]
        (images / "a.png").unlink()
    (images / "folder").symlink_to(inner / "md5" / "ab")  # folders must not be links
    with pytest.raises(UnusableImage, match="symbolic link"):
        read_inside(images, "folder/a", cache=cache)
    neighbour = Path(f"{cache}-of-others")
    neighbour.mkdir()
    (neighbour / "a").write_bytes(png(9))
    (images / "a.png").symlink_to(neighbour / "a")
    assert read(linked, link_cache="../.dvc/cache")[0] == [6]


def test_the_cache_is_no_folder_above_the_data(linked):
    for above in ("..", "../../", str(linked), "../data/../../" + linked.parent.name):
        faults = column_faults(linked, schema(link_cache=above))
        assert "image.link_cache must not be a folder that contains the data folder." in faults


def test_a_file_that_may_not_be_opened_is_no_missing_one(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(1))

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnusableImage, match="permissions"):
        read_inside(tmp_path, "a.png")


def test_the_documentation_names_every_field_of_the_section():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "own-data.md").read_text()
    assert all(f"`{key}: " in page for key in set(RULES) - REQUIRED)


def test_no_other_row_changes_which_file_a_row_leads_to(tmp_path):
    lines = [HEADER, "1,a.png,ball,1", "2,B.png,ball,1", "3,c,ball,1"]
    files = {"a.PNG": png(1), "b.png": png(2), "c.jpg": png(3)}
    folder = write_csv(tmp_path / "data", lines, files)
    spec = {"file": ["{name}", "{name}.jpg", "{name:lower}"]}
    assert read(folder, **spec)[0] == [1, 2, 3]
    for row in (1, 2, 3):
        kept = [line for i, line in enumerate(lines) if i != row]
        (folder / "records.csv").write_text("\n".join(kept) + "\n")
        assert read(folder, **spec)[0] == [shade for shade in (1, 2, 3) if shade != row]


def test_the_bound_on_bytes_follows_the_bound_on_pixels(tmp_path):
    folder = write_csv(tmp_path / "data", [HEADER, "1,a.png,ball,1"], {"a.png": png(1)})
    with (folder / "images" / "a.png").open("ab") as file:
        file.truncate(2**20 + 4 * 5000 + 1)
    assert read(folder, max_pixels=5000)[1] == {f"image {Reason.BYTES}: row dropped": 1}
    assert read(folder, max_pixels=5001)[0] == [1]
    assert replace(SPEC, max_pixels=5000).max_bytes == 2**20 + 20_000


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_machine_that_fails_drops_nobodys_row(tmp_path, monkeypatch, number):
    (tmp_path / "a.png").write_bytes(b"a")

    def fails(path: Path) -> bytes:
        raise OSError(number, "the mount is gone")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError, match="the mount is gone"):
        read_inside(tmp_path, "a.png")


@pytest.mark.parametrize("name", ["n" * 5000, "a.png/b.png", "absent.png"])
def test_no_name_can_end_the_reading_of_all(tmp_path, name):
    (tmp_path / "a.png").write_bytes(b"a")
    with pytest.raises(UnusableImage):
        read_inside(tmp_path, name)
