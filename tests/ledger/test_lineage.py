"""Every released file resolves to every use of private data behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagster_project.ledger import Ledger, UnknownRelease, file_sha256, lineage
from dagster_project.ledger.chain import Entry
from dagster_project.ledger.state import State
from tests.ledger.toys import executed, gaussian, plan, population, training


def digest(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A release of four stages, and one that reuses its table model."""
    ledger = Ledger.open(population(tmp_path))
    pairs = gaussian(9.0, stage="mean_pairs")
    first = plan("first", gaussian(), pairs, training(steps=2, replay_steps=1))
    ledger.reserve(first, approved_by="Dr. Steward", schema_public=False)
    ledger.attach("first", git_commit="abc", mlflow_run="m1", data_md5="secret-md5")
    ledger.open_reservation("first")
    for stage in ("table_model", "mean_pairs"):
        ledger.begin("first", stage, executed(first, stage))
    ledger.commit("first", "table_model", {"table.npz": digest(1)})
    ledger.commit("first", "mean_pairs", {"pairs.npz": digest(2)}, ["table_model"])
    ledger.begin("first", "image_model", executed(first, "image_model"))
    ledger.authorise_steps("first", "image_model", 0, 1)
    ledger.commit("first", "image_model", {"w.safetensors": digest(3)}, ["mean_pairs"])
    file = tmp_path / "train.parquet"
    file.write_bytes(b"synthetic")
    files = {"data/train.parquet": file_sha256(file), "card.md": digest(4)}
    ledger.commit("first", "synthetic_release", files, ["image_model", "table_model"])
    second = plan("second", gaussian(12.0, stage="mean_pairs"))
    ledger.reserve(second, approved_by="Dr. Steward", schema_public=False)
    ledger.open_reservation("second")
    ledger.begin("second", "mean_pairs", executed(second, "mean_pairs"))
    parents = ["first/table_model"]
    ledger.commit("second", "mean_pairs", {"pairs.npz": digest(5)}, parents)
    return ledger


def events(chain) -> set[tuple[str, str]]:
    return {
        (release["release_id"], item["name"])
        for release in chain["releases"]
        for stage in release["stages"]
        for item in stage["mechanisms"]
    }


def test_a_file_resolves_to_every_spend_behind_it(ledger: Ledger, tmp_path: Path) -> None:
    chain = lineage.trace(ledger, tmp_path / "train.parquet")
    assert chain["file"]["path"] == "data/train.parquet"
    assert events(chain) == {
        ("first", "table_model.measurement"),
        ("first", "mean_pairs.measurement"),
        ("first", "image_model"),
    }
    assert json.loads(json.dumps(chain)) == chain
    assert events(lineage.trace(ledger, digest(2))) == {
        ("first", "table_model.measurement"),
        ("first", "mean_pairs.measurement"),
    }


def test_a_reused_component_brings_its_own_release_along(ledger: Ledger) -> None:
    for target in ("second", digest(5)):
        chain = lineage.trace(ledger, target)
        assert [item["release_id"] for item in chain["releases"]] == ["second", "first"]
        assert events(chain) == {
            ("second", "mean_pairs.measurement"),
            ("first", "table_model.measurement"),
        }


def test_what_is_in_no_release_is_said_so(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"synthetik")
    with pytest.raises(lineage.UntracedFile):
        lineage.trace(ledger, tmp_path / "train.parquet")
    with pytest.raises(UnknownRelease):
        lineage.trace(ledger, "third")


def test_text_shows_noise_clip_rate_steps_and_cohort(ledger: Ledger) -> None:
    text = lineage.render_text(lineage.trace(ledger, "first"))
    for words in (
        "noise_multiplier=4.2",
        "clip_norm=1",
        "sample_rate=0.01",
        "steps=2",
        "count=3",
        "cohort=all",
        "post-processing, no cost",
        "2 steps authorised",
        "git_commit: abc",
        plan().data_version,
        "Dr. Steward",
        ledger.head,
    ):
        assert words in text


def test_the_public_view_hides_what_is_private(ledger: Ledger) -> None:
    chain = lineage.trace(ledger, "first")
    for shown in (lineage.render_text(chain, public=True), json.dumps(lineage.public_view(chain))):
        for hidden in (
            plan().data_version,
            "secret-md5",
            "Steward",
            chain["releases"][0]["plan_hash"],
        ):
            assert hidden not in shown
        assert "m1" in shown and "noise_multiplier" in shown


def test_the_timeline_follows_the_account(ledger: Ledger) -> None:
    ledger.reserve(plan("third"), approved_by="x", schema_public=False)
    ledger.void("third")
    rows = lineage.timeline(ledger)
    assert [(row["release_id"], row["event"]) for row in rows] == [
        ("first", "RESERVED"),
        ("second", "RESERVED"),
        ("third", "RESERVED"),
        ("third", "VOID"),
    ]
    (cohort,) = ledger.cohorts()
    assert (rows[-1]["spent"], rows[-1]["cap"]) == (cohort.spent, cohort.cap)
    assert rows[-1]["share"] == cohort.share == rows[1]["share"]


def test_tracing_reads_each_entry_a_fixed_number_of_times(
    ledger: Ledger, tmp_path: Path, monkeypatch
) -> None:
    reads = 0
    replay = State.replay

    def counted(state: State, entry: Entry) -> None:
        nonlocal reads
        reads += 1
        replay(state, entry)

    monkeypatch.setattr(State, "replay", counted)
    rates = []
    for number in range(60):
        ledger.attach("first", **{f"fact{number}": number})
        if number in (0, 59):
            reads = 0
            opened = Ledger.open(population(tmp_path))
            lineage.trace(opened, tmp_path / "train.parquet")
            rates.append(reads / len(opened.entries()))
    assert rates[0] > 0 and rates[1] == rates[0]
