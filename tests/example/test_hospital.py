"""The hospital example: what it writes, what is read of it, and every command of its page."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dagster_project.cli import main as cli
from dagster_project.data.blanks import blanks
from dagster_project.data.check import look
from dagster_project.data.images import decode_image
from dagster_project.data.schema import Schema
from dagster_project.data.schema_rules import read_yaml
from dagster_project.example import hospital
from dagster_project.example.phantoms import Body, radiograph
from tests.toy_project import settings_arguments

PEOPLE = 160
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "hospital.md"
SMALLEST = {
    "table.rounds": 1,
    "table.iterations": 5,
    "table.final_iterations": 5,
    "image_generator.steps": 5,
    "image_generator.perceptual_steps": 1,
    "pretraining.procedural": 32,
    "pretraining.steps": 2,
    "budget_split.image": 0.0,
    "sampler.steps": 1,
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export, with the schema filled in."""
    root = tmp_path_factory.mktemp("hospital") / "clinic"
    hospital.build(root, people=PEOPLE)
    shutil.copy(root / "answers" / "schema.yaml", root / "data")
    return root


def test_the_same_seed_draws_the_same_hospital(clinic, tmp_path):
    """Of fewer people, because each person has a generator of their own."""
    hospital.build(tmp_path / "few", people=20)
    for file in (tmp_path / "few" / "data").rglob("*_*.*"):
        same = clinic / file.relative_to(tmp_path / "few")
        assert file.read_bytes() == same.read_bytes()
    rows = [root / "data" / "records.csv" for root in (tmp_path / "few", clinic)]
    few, all_of_them = (file.read_bytes() for file in rows)
    assert all_of_them.startswith(few)
    with pytest.raises(FileExistsError):
        hospital.build(clinic, people=1)


def test_what_is_declared_reads_all_but_the_lost_files(clinic):
    found = look(clinic / "data", clinic / "data" / "schema.yaml", examples=0)
    assert not found.stops and not found.causes
    assert found.people.found == PEOPLE < found.rows.found
    lost = [reason for reason in found.reasons if reason.lost]
    assert [reason.text.partition(":")[0] for reason in lost] == ["image missing"]
    assert 0 < lost[0].rows == found.rows.found - found.rows.kept < 0.03 * found.rows.found
    assert all(part.found for part in found.values if "findings" in part.what)


def test_pictures_of_all_sites_are_alike(clinic):
    """What the three stores differ in is undone by what the schema declares."""
    spec = Schema.from_file(clinic / "data" / "schema.yaml").image
    means = {}
    for site, folder in hospital.SITES.items():
        files = sorted((clinic / "data" / "images" / folder).iterdir())
        assert len({file.suffix for file in files}) == 1
        means[site] = np.mean([decode_image(f.read_bytes(), spec) for f in files], axis=(0, 1))
    assert all(50 < mean.mean() < 130 for mean in means.values())
    for mean in means.values():
        assert np.corrcoef(mean.ravel(), means["Bern"].ravel())[0, 1] > 0.95


def test_pictures_depend_on_the_record():
    body = Body(female=False, bmi=24.0, width=0, height=0, heart=0, tilt=0)

    def shown(age=50.0, lateral=False, findings=()):
        return radiograph(
            body,
            age=age,
            lateral=lateral,
            findings=frozenset(findings),
            side=64,
            rng=np.random.default_rng(3),
        )

    plain = shown()
    assert plain.shape == (64, 64) and plain.min() >= 0 and plain.max() <= 1
    for lateral in (False, True):
        for finding in hospital.FINDINGS:  # each absorbs more, somewhere
            more = shown(findings=[finding], lateral=lateral) - shown(lateral=lateral)
            assert more.max() > 0.15, finding
    assert np.abs(shown(age=4) - plain).mean() > 0.05
    assert np.abs(shown(lateral=True) - plain).mean() > 0.1


def commands() -> list[list[str]]:
    """The commands of the page, in its order."""
    blocks = PAGE.read_text(encoding="utf-8").split("```\n")[1::2]
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line]


def test_the_commands_of_the_page_lead_from_folder_to_release(tmp_path, monkeypatch, capsys):
    """On fewer people and smaller pictures, with fewer steps; all else as on the page."""
    monkeypatch.chdir(tmp_path)
    release, said = "", {}
    fewer = {"--n-public": str(PEOPLE), "--n": "40"}
    steps = settings_arguments(**SMALLEST)
    more = {"plan": steps, "release": ["--extractor", "pixels", *steps]}
    for program, *words in commands():
        words = [word.replace("RELEASE", release) for word in words]
        for option in fewer.keys() & set(words):
            words[words.index(option) + 1] = fewer[option]
        if program == "cd":
            monkeypatch.chdir(words[0])
        elif program == "cp":
            assert blanks(read_yaml(Path(words[1])))  # the draft had some
            filled = Path(words[0]).read_text(encoding="utf-8")
            Path(words[1]).write_text(filled.replace(": 32", ": 12"), encoding="utf-8")
        elif program == "python":
            assert words[:2] == ["-m", hospital.__name__]
            monkeypatch.setattr("sys.argv", [*words[1:], "--people", str(PEOPLE)])
            hospital.main()
        else:
            assert program == "dptabimage"
            assert cli.main([*words, *more.get(words[0], [])]) == 0, capsys.readouterr().err
            said[words[0]] = capsys.readouterr().out
            if words[0] == "release":
                (bundle,) = Path("releases").iterdir()
                release = bundle.name
    assert release in said["release"] and release in said["ledger"]
    assert said["init"].count("blanks to fill in") == 2
    assert "the ledger agrees" in said["verify"]
    tables = {
        folder.name: pd.read_parquet(folder / "data") for folder in Path("releases").iterdir()
    }
    ignored = {"patient", "file", "report"}
    for table in tables.values():
        assert set(table.columns) == {"image", *hospital.COLUMNS} - ignored and len(table) == 40
        assert table["age"].str.fullmatch(r"\d{3}Y").all()
    del tables[release]
    (some,) = tables.values()
    assert some["findings"].str.contains("Effusion").all()
    assert some["age"].str[:3].astype(int).min() >= 60
