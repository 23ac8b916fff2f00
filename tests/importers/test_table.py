"""Tables beside images, and telling file names, become data folders as they are declared."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.cli import main as cli
from dagster_project.data.reading import read_pairs
from dagster_project.data.schema import Schema
from tests.importers.archives import encoded, pixels, save

N = 24
AGES = "age=0,20,40,60,80,120"


def bring(source: Path, out: Path, *more: str) -> int:
    return cli.main(["import", "table", str(source), str(out), "--n-public", "30", *more])


def imported(source: Path, out: Path, *more: str) -> tuple[pd.DataFrame, Schema]:
    assert bring(source, out, *more) == 0
    return read(out)


def read(out: Path) -> tuple[pd.DataFrame, Schema]:
    """The rows of a data folder, whose pairs can all be read, and its schema."""
    schema = Schema.from_file(out / "schema.yaml")
    table = pd.concat(pd.read_parquet(file) for file in sorted(out.glob("*.parquet")))
    train, held_out, _ = read_pairs(out, schema, heldout_key=b"0" * 16)
    assert len(train) + len(held_out) == table["person"].nunique()
    return table, schema


def write(file: Path, lines: list[str], encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return file


def ham10000(root: Path) -> Path:
    lines = ["lesion_id,image_id,dx,age,sex"]
    for i in range(N):
        name = f"ISIC_{i:07d}"
        save(root / f"HAM10000_images_part_{1 + i % 2}" / f"{name}.jpg", pixels(i, 30, 40))
        age = "" if i == 0 else f"{20 + i}.0"
        lines.append(f"HAM_{i // 2:07d},{name},{('nv', 'mel')[i % 2]},{age},unknown")
    return write(root / "HAM10000_metadata.csv", lines)


def chexpert(root: Path) -> Path:
    lines = ["Path,Sex,Age,Frontal/Lateral,AP/PA,Pleural Effusion"]
    for i in range(N):
        name = f"train/patient{i // 2:05d}/study{i % 2}/view1_frontal.jpg"
        save(root / name, pixels(i, 30, 30, 1))
        view = ("Frontal,AP,1.0", "Lateral,,")[i % 2]
        lines.append(f"{root.name}/{name},{('Female', 'Male')[i // 2 % 2]},{30 + i},{view}")
    return write(root / "train.csv", lines)


def utkface(root: Path) -> Path:
    for i in range(N):
        save(root / f"{20 + i}_{i % 2}_{i % 5}_2017010{i:05d}.jpg.chip.jpg", pixels(i, 20, 20))
    save(root / "61_1_20170109142408075.jpg.chip.jpg", pixels(1, 20, 20))  # one lacks a part
    return root


def faces(root: Path, kind: str = "csv") -> Path:
    """A Hugging Face folder with two parts and metadata."""
    for part, size in (("train", N), ("test", 6)):
        rows = []
        for i in range(size):
            save(root / part / f"{i:05d}.png", pixels(i, 20, 20))
            rows.append({"file_name": f"{i:05d}.png", "sex": "fm"[i % 2], "age": 20 + i})
        lines = [json.dumps(row) for row in rows]
        if kind == "csv":
            lines = ["file_name,sex,age", *(",".join(map(str, row.values())) for row in rows)]
        write(root / part / f"metadata.{kind}", lines)
    return root


def documented() -> dict[str, list[str]]:
    """The commands of the page on importing, by their sources."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "import.md").read_text()
    block = text.partition("# CheXpert")[2].partition("```")[0].replace("\\\n", " ")
    found = [shlex.split(line) for line in block.splitlines() if line.startswith("dptabimage")]
    return {Path(words[3]).parts[0]: words[1:] for words in found}


@pytest.mark.parametrize(
    ("draw", "root", "people"),
    [
        (chexpert, "CheXpert-v1.0-small", {f"patient{i:05d}" for i in range(N // 2)}),
        (ham10000, ".", {f"HAM_{i:07d}" for i in range(N // 2)}),
        (utkface, "UTKFace", None),
        (faces, "faces", None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_documented_commands_import_what_they_say(tmp_path, monkeypatch, draw, root, people):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / root)
    source = "HAM10000_metadata.csv" if root == "." else root
    assert cli.main(documented()[source]) == 0
    table, schema = read(tmp_path / "data")
    assert len(table) == (N + 6 if draw is faces else N)
    assert people is None or set(table["person"]) == people
    codes = read_pairs(tmp_path / "data", schema, heldout_key=None)[0].codes
    # Every attribute that its owners fill is known for somebody.
    known = (codes < [len(a.labels) - 1 for a in schema.attributes]).any(axis=0)
    assert known.tolist() == [name != "sex" or draw is not ham10000 for name in schema.names]


def test_absent_and_renamed_columns_of_chexpert(tmp_path):
    source = chexpert(tmp_path / "CheXpert-v1.0-small")
    table, schema = imported(
        source,
        tmp_path / "data",
        *("--file-column", "Path", "--strip-prefix", source.parent.name),
        *("--name-pattern", "(?P<patient>patient[0-9]+)", "--person-id", "patient"),
        *("--categories", "Frontal/Lateral=Frontal,Lateral", "--categories", "AP/PA=AP,PA"),
    )
    assert schema.names == ("Frontal_Lateral", "AP_PA")
    assert list(table["AP_PA"].isna()[:2]) == [False, True]
    assert not schema.public and schema.n_public == 30


HAM = ("--file-column", "image_id", "--file-pattern", "{name}.jpg", "--person-id", "lesion_id")


def test_ham10000_has_two_folders_and_names_without_ending(tmp_path):
    source = ham10000(tmp_path / "ham")
    parts = ",".join(str(source.parent / f"HAM10000_images_part_{i}") for i in (1, 2))
    told = ("--images", parts, *HAM, "--edges", AGES, "--categories", "dx=nv,mel")
    table, _ = imported(source, tmp_path / "data", *told)
    assert len(table) == N and table["person"].nunique() == N // 2
    assert table["age"].isna().tolist() == [True] + [False] * (N - 1)
    # The pictures' upper half is bright where the number is odd.
    bright = read_pairs(tmp_path / "data", Schema.from_file(tmp_path / "data" / "schema.yaml"),
                        heldout_key=None)[0]  # fmt: skip
    upper = bright.images[:, :, :10].mean(axis=(1, 2, 3)) > 140
    assert (upper == (bright.codes[:, 0] == 1)).all()


def test_a_schema_declares_everything(tmp_path):
    source = ham10000(tmp_path / "ham")
    schema = write(
        tmp_path / "draft.yaml",
        [
            "name: skin",
            "population: patients",
            "n_public: 30",
            "person_id: lesion_id",
            "person_id_rule: integer",
            "image: {column: image_id, channels: 1, height: 16, width: 12, file: '{name}.jpg'}",
            "table: {missing_values: [unknown]}",
            "attributes:",
            "  sex: {kind: categorical, categories: [f, m], missing: true}",
            "  finding: {kind: categorical, column: dx, categories: [nv, mel]}",
        ],
    )
    images = ("--images", f"{source.parent / 'HAM10000_images_part_1'}", "--schema", str(schema))
    table, written = imported(source, tmp_path / "data", *images)
    assert list(table.columns) == ["person", "image", "sex", "finding"]
    assert written.table.missing_values == ("unknown",) and set(table["finding"]) == {"nv"}
    codes = read_pairs(tmp_path / "data", written, heldout_key=None)[0].codes
    assert set(codes[:, 0]) == {2}  # "unknown" is missing
    assert (written.name, written.population, written.person_id_rule) == (
        "skin",
        "patients",
        "integer",
    )
    image = written.image
    assert (image.channels, image.height, image.width, image.file) == (1, 16, 12, ())


def test_names_of_files_are_records(tmp_path):
    """UTKFace: age_gender_race_time.jpg."""
    table, schema = imported(
        utkface(tmp_path / "UTKFace"),
        tmp_path / "data",
        *("--name-pattern", "^(?P<age>[0-9]+)_(?P<gender>[01])_(?P<race>[0-4])_"),
        *("--unit", "image", "--edges", AGES),
        *("--categories", "gender=0,1", "--categories", "race=0,1,2,3,4"),
    )
    assert len(table) == N and schema.names == ("gender", "race", "age")
    assert sorted(map(int, table["age"])) == [20 + i for i in range(N)]
    assert table["person"].str.endswith(".chip.jpg").all()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_of_a_hugging_face_folder(tmp_path, kind, capsys):
    root = faces(tmp_path / "source", kind)
    table, _ = imported(
        root, tmp_path / "data", "--unit", "image", "--categories", "sex=f,m", "--edges", AGES
    )
    assert len(pd.read_parquet(tmp_path / "data" / "heldout.parquet")) == 6
    assert len(table) == N + 6 and set(table["sex"]) == {"f", "m"}
    assert "train/00000.png" in set(table["person"])
    out = tmp_path / "other"
    assert cli.main(["import", "imagefolder", str(root), str(out), "--n-public", "30"]) == 2
    assert "import table" in capsys.readouterr().err


def test_an_export_of_european_excel(tmp_path):
    lines = ["Patient;Größe;Befund;Notiz"]
    for i in range(N):
        save(tmp_path / "images" / f"{i}.png", pixels(i, 20, 20))
        size = "-999" if i == 3 else f"1,{50 + i}"
        lines.append(f"{i};{size};{('groß', 'k.A.')[i % 2]};frei")
    source = write(tmp_path / "export.csv", lines, "cp1252")
    table, schema = imported(
        source,
        tmp_path / "data",
        *("--separator", ";", "--encoding", "cp1252", "--decimal", ","),
        *("--missing-values", "k.A.,-999", "--images", str(tmp_path / "images")),
        *("--file-pattern", "{name}.png", "--person-id", "Patient"),
        *("--categories", "Befund=groß,klein", "--edges", "Größe=1,1.5,2"),
    )
    assert schema.names == ("Befund", "Größe")
    assert schema.table.decimal == "," and len(table) == N
    codes = read_pairs(tmp_path / "data", schema, heldout_key=None)[0].codes
    assert sorted(codes[:, 0]) == [0] * (N // 2) + [2] * (N // 2)  # groß, and missing
    assert sorted(codes[:, 1]) == [1] * (N - 1) + [2]  # 1,5 to 2, and -999


def test_parquet_keeps_its_types_and_may_hold_the_images(tmp_path):
    table = pa.table(
        {
            "subject": pa.array(range(N), pa.int64()),
            "scan": pa.array([encoded(pixels(i, 20, 20)) for i in range(N)], pa.binary()),
            "smoker": pa.array([bool(i % 2) for i in range(N)]),
            "age": pa.array([None, *range(20, 19 + N)], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "all.parquet")
    told = ("--person-id", "subject", "--file-column", "scan", "--edges", AGES)
    rows, _ = imported(
        tmp_path / "all.parquet", tmp_path / "data", *told, "--categories", "smoker=false,true"
    )
    assert rows["person"][5] == "5" and rows["age"].isna().sum() == 1
    assert pq.read_schema(tmp_path / "data" / "records.parquet").field("smoker").type == pa.bool_()


def test_public_values_suggest_the_domains(tmp_path):
    source = ham10000(tmp_path / "ham")
    told = (*HAM, "--images", str(source.parent / "HAM10000_images_part_1"), "--ignore", "sex")
    _, schema = imported(source, tmp_path / "data", *told, "--public")
    assert schema.public and schema.names == ("dx", "age")
    assert schema.attributes[0].categories == ("mel", "nv")
    assert schema.attributes[1].edges[0] <= 20 and schema.attributes[1].edges[-1] >= 43


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["--unit", "image", "--categories", "dx=nv,mel"], "--file-column"),
        (["--file-column", "image_id", "--categories", "dx=nv,mel"], "--person-id"),
        ([*HAM], "--categories"),
        ([*HAM, "--categories", "finding=a,b"], "no column 'finding'"),
        ([*HAM, "--categories", "dx=a,b", "--edges", "dx=1,2"], "twice"),
        ([*HAM, "--categories", "dx=a,b", "--separator", ";"], "no column"),
        ([*HAM, "--categories", "dx=a,b", "--encoding", "ebcdic"], "encoding"),
        ([*HAM, "--categories", "dx=a,b", "--images", "nowhere"], "nowhere"),
        ([*HAM, "--categories", "dx=a,b", "--name-pattern", "("], "regular expression"),
        ([*HAM, "--categories", "dx=a,b", "--name-pattern", "(a)"], "named groups"),
        ([*HAM, "--categories", "dx=a,b", "--name-pattern", "(?P<dx>a)"], "group of"),
    ],
)
def test_what_is_not_declared_is_asked_for_in_one_sentence(tmp_path, capsys, told, words):
    source = ham10000(tmp_path / "ham")
    assert bring(source, tmp_path / "data", *told) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("dptabimage: ") and words in lines[0], lines
    assert not (tmp_path / "data").exists()


def test_a_folder_without_telling_names_is_refused(tmp_path, capsys):
    save(tmp_path / "images" / "1.png", pixels(1, 20, 20))
    assert bring(tmp_path / "images", tmp_path / "data", "--unit", "image") == 2
    assert "no table" in capsys.readouterr().err
    pattern = ("--name-pattern", "(?P<age>[0-9]+)")
    assert bring(tmp_path / "images", tmp_path / "data", "--unit", "image", *pattern) == 2
    assert "--categories" in capsys.readouterr().err
