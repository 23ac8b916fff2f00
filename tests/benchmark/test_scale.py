"""`bench scale`: the data that it draws, what a stage costs, and how costs grow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagster_project.benchmark import scale, scale_data
from dagster_project.benchmark.scale import Row, measure, slopes
from dagster_project.cli import main as cli
from dagster_project.data.reading import read_pairs


def row(people: int, stage: str, seconds: float, megabytes: float) -> Row:
    memory = int(megabytes * 1e6)
    return Row(
        people=people,
        stage=stage,
        seconds=seconds,
        cpu_seconds=seconds,
        peak_memory=memory,
        peak_resident=memory,
    )


def test_drawn_data_can_be_read_whole(tmp_path: Path) -> None:
    schema = scale_data.write(tmp_path / "data", 300)
    train, heldout, counts = read_pairs(tmp_path / "data", schema, heldout_key=b"k" * 16)
    assert len(train) + len(heldout) == counts.rows == 300
    again = scale_data.write(tmp_path / "again", 300)
    assert again.hash == schema.hash
    first, second = (tmp_path / name / "train.parquet" for name in ("data", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_a_stage_is_measured_in_a_process_of_its_own() -> None:
    (found,) = measure(50, until="data_version")
    assert (found.people, found.stage) == (50, "data_version")
    assert 0 <= found.cpu_seconds < 1
    assert 50e6 < found.peak_memory <= found.peak_resident < 2e9
    with pytest.raises(RuntimeError, match="nowhere failed"):
        scale._run(["--root", "nowhere", "--data", "nowhere", "none", "nowhere"])


def test_stages_run_on_a_ledger_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_here(arguments: list[str]) -> dict[str, float]:
        monkeypatch.setattr("sys.argv", ["scale", *arguments])
        scale.main()
        found: dict[str, float] = json.loads(capsys.readouterr().out)
        return found

    monkeypatch.setattr(scale, "_run", run_here)
    told: list[Row] = []
    rows = measure(200, until="table_model", told=told.append)
    assert rows == told
    assert [found.stage for found in rows] == list(scale.STAGES[:4])
    assert all(found.cpu_seconds >= 0 and found.peak_memory > 50e6 for found in rows)


def test_growth_is_by_the_fewest_and_the_most_people(tmp_path: Path) -> None:
    rows = [
        row(100, "pairs", 1.0, 300),
        row(10_000, "pairs", 100.0, 330),
        row(100, "subsample", 1, 1),
    ]
    assert slopes(rows) == [
        {
            "stage": "pairs",
            "people": 10_000,
            "time_exponent": 1.0,
            "cpu_microseconds_per_person": 1e4,
            "memory_ratio": 1.1,
            "bytes_per_person": 3030.3,
        }
    ]
    scale.plot(rows, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 10_000


def test_the_command_adds_to_earlier_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale, "measure", lambda people, **_: [row(people, "pairs", 2.0, 300)])
    earlier = tmp_path / "earlier.json"
    for people, arguments in (("1e4", []), ("20000", ["--add", str(earlier)])):
        assert cli.main(["bench", "scale", "--people", people, "--json", *arguments]) == 0
        earlier.write_text(capsys.readouterr().out)
    found = json.loads(earlier.read_text())
    assert [one["people"] for one in found["rows"]] == [10_000, 20_000]
    assert found["slopes"][0]["time_exponent"] == 0
    assert cli.main(["bench", "scale", "--until", "nowhere"]) == 2
