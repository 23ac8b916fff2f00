"""The version of a data folder, found without reading a record."""

import pytest

from dagster_project.data.versions import VersionError, data_version

MD5 = "0123456789abcdef0123456789abcdef.dir"


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    (data / "records.csv").write_text("a,b\n1,2\n")
    (data / "images" / "1.png").write_bytes(b"12345")
    return data


def pointer(folder, **changes):
    fields = {"md5": MD5, "size": 13, "nfiles": 2, "hash": "md5", "path": "data", **changes}
    lines = [f"{k}: {v}" for k, v in fields.items() if v is not None]
    text = "outs:\n- " + "\n  ".join(lines) + "\n"
    folder.with_name("data.dvc").write_text(text)


def test_under_dvc_the_version_is_the_pointers_md5(folder):
    pointer(folder)
    found = data_version(folder)
    assert (found.text, found.tracked) == (f"md5:{MD5}", True)


@pytest.mark.parametrize("changes", [{"size": 14}, {"nfiles": 3}])
def test_files_that_are_not_the_pointers_are_refused(folder, changes):
    pointer(folder, **changes)
    with pytest.raises(VersionError, match="dvc checkout"):
        data_version(folder)


def test_a_pointer_without_sizes_is_taken(folder):
    pointer(folder, size=None, nfiles=None)
    assert data_version(folder).text == f"md5:{MD5}"


@pytest.mark.parametrize("text", ["", "outs: []", "outs:\n- path: data\n", "{", "- 1", "outs: 5"])
def test_what_is_no_pointer_is_refused_in_one_sentence(folder, text):
    folder.with_name("data.dvc").write_text(text)
    with pytest.raises(VersionError) as refused:
        data_version(folder)
    assert "\n" not in str(refused.value) and "data.dvc" in str(refused.value)


def test_without_dvc_any_change_of_a_file_is_a_new_version(folder):
    first = data_version(folder)
    assert first.text.startswith("listing:") and not first.tracked
    assert data_version(folder) == first
    (folder / "images" / "2.png").write_bytes(b"1")
    second = data_version(folder)
    (folder / "records.csv").write_text("a,b\n1,23\n")
    assert len({first.text, second.text, data_version(folder).text}) == 3


def test_content_is_never_read(folder, monkeypatch):
    """The listing holds names, sizes and times; opening a record is left to `pairs`."""
    opened = []
    original = type(folder).open
    monkeypatch.setattr(
        type(folder), "open", lambda p, *a, **k: opened.append(p) or original(p, *a, **k)
    )
    pointer(folder)
    opened.clear()
    data_version(folder)
    assert [p.name for p in opened] in ([], ["data.dvc"])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(VersionError, match=r"does not exist$"):
        data_version(tmp_path / "data")
    pointer(tmp_path / "data")
    with pytest.raises(VersionError, match="dvc pull"):
        data_version(tmp_path / "data")
