"""What `doctor` says of a machine and a folder, without changing either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagster_project.cli import doctor
from dagster_project.cli import main as cli
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from tests.toy_project import files_below, write_project


def found(root: Path, capsys) -> tuple[int, dict[str, tuple[str, str]]]:
    code = cli.main(["doctor", "--root", str(root), "--data", str(root / "data"), "--json"])
    lines = json.loads(capsys.readouterr().out)
    return code, {line["name"]: (line["state"], line["text"]) for line in lines}


def test_a_project_is_described_and_left_alone(tmp_path: Path, capsys) -> None:
    root = write_project(tmp_path)
    before = files_below(root)
    code, lines = found(root, capsys)
    assert code == 0 and files_below(root) == before
    assert {state for state, _ in lines.values()} == {"ok", "note"}
    assert "there is none yet" in lines["ledger"][1] and "not under DVC" in lines["data"][1]
    assert "torch " in lines["packages"][1] and "CPU cores" in lines["device"][1]
    Ledger.open(Population.load(root / "population.yaml")).close()
    assert found(root, capsys)[1]["ledger"][1].startswith(
        "2 entries verified; cohort founding: 0 %"
    )
    (root / "ledger" / "ledger.sqlite").unlink()
    code, lines = found(root, capsys)
    assert code == 2 and lines["ledger"][0] == "wrong" and "is missing" in lines["ledger"][1]


def test_what_is_wrong_is_said_and_the_rest_still_looked_at(tmp_path, capsys, monkeypatch) -> None:
    root = write_project(tmp_path)
    records = root / "data" / "records.csv"
    records.write_text(records.read_text().replace("weight", "mass", 1))
    monkeypatch.setattr(doctor, "_FREE", 1e18)
    code, lines = found(root, capsys)
    assert code == 2 and "'weight'" in lines["data"][1] and "GB free" in lines["disk"][1]
    assert lines["population"][0] == lines["account"][0] == "ok"


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_folder_is_a_note(tmp_path: Path, capsys, empty: bool) -> None:
    if not empty:
        (tmp_path / "population.yaml").write_text("population: [")
    code, lines = found(tmp_path, capsys)
    assert code == (0 if empty else 2)
    assert ("there is no population.yaml" if empty else "is not YAML") in lines["population"][1]
