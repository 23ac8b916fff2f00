"""Which ledger a population is given, and which it is refused."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dagster_project.ledger import (
    Entry,
    Head,
    KeyLost,
    Ledger,
    LedgerBehindAnchor,
    LedgerBroken,
    LedgerMissing,
    LedgerUnavailable,
    PopulationChanged,
    gdp_filter,
    identity,
)
from dagster_project.ledger.population import Population
from dagster_project.ledger.state import State
from tests.ledger.toys import plan, population, population_file


def used(folder: Path, *, anchored: bool = True) -> Population:
    """A population with a closed ledger that holds one reservation."""
    toy = population(folder)
    ledger = Ledger.open(toy)
    ledger.reserve(plan(), approved_by="steward", schema_public=False)
    if anchored:
        toy = toy.write_anchor(ledger.anchor())
    ledger.close()
    return toy


def test_first_use_creates_ledger_and_key(tmp_path: Path) -> None:
    toy = population(tmp_path)
    ledger = Ledger.open(toy)
    assert [entry.kind for entry in ledger.entries()] == ["CREATED", "COHORT"]
    assert len(toy.member_key()) == 32
    assert stat.S_IMODE(toy.key_path.stat().st_mode) == 0o600
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.parametrize("anchored", [True, False])
def test_a_deleted_ledger_is_never_replaced_by_an_empty_one(tmp_path: Path, anchored) -> None:
    toy = used(tmp_path, anchored=anchored)
    (tmp_path / "ledger/ledger.sqlite").unlink()
    with pytest.raises(LedgerMissing):
        Ledger.open(toy)
    (tmp_path / "ledger/ledger.sqlite").touch()
    with pytest.raises(LedgerMissing):
        Ledger.open(toy)


def test_a_fresh_clone_without_the_ledger_is_refused(tmp_path: Path) -> None:
    used(tmp_path / "original")
    (tmp_path / "clone").mkdir()
    shutil.copy(tmp_path / "original/population.yaml", tmp_path / "clone")
    with pytest.raises(LedgerMissing):
        Ledger.open(Population.load(tmp_path / "clone/population.yaml"))
    assert [path.name for path in (tmp_path / "clone").rglob("*")] == ["population.yaml"]


@pytest.mark.parametrize("anchored", [True, False])
def test_a_lost_or_swapped_key_freezes_the_population(tmp_path: Path, anchored) -> None:
    toy = used(tmp_path, anchored=anchored)
    toy.key_path.unlink()
    with pytest.raises(KeyLost, match="lost"):
        Ledger.open(toy)
    toy.key_path.write_bytes(os.urandom(32))
    with pytest.raises(KeyLost, match="not the one"):
        Ledger.open(toy)


def test_a_restored_backup_is_behind_its_anchor(tmp_path: Path) -> None:
    toy = used(tmp_path)
    shutil.copytree(tmp_path / "ledger", tmp_path / "backup")
    ledger = Ledger.open(toy)
    ledger.open_reservation("first")
    toy = toy.write_anchor(ledger.anchor())
    ledger.close()
    shutil.rmtree(tmp_path / "ledger")
    shutil.copytree(tmp_path / "backup", tmp_path / "ledger")
    with pytest.raises(LedgerBehindAnchor, match="entry 4"):
        Ledger.open(toy)


@pytest.mark.parametrize(
    "change",
    [
        {"lifetime_epsilon": 50.0},
        {"target_delta": 1e-5},
        {"n_public": 1000},
        {"population": "renamed"},
    ],
)
def test_fixed_parameters_cannot_be_changed(tmp_path: Path, change) -> None:
    used(tmp_path, anchored=False)
    with pytest.raises(PopulationChanged, match="fixed"):
        Ledger.open(population(tmp_path, **change))


def test_the_cap_is_fixed_at_creation(tmp_path: Path, monkeypatch) -> None:
    used(tmp_path, anchored=False)
    toy = population(tmp_path)
    fixed = toy.cap
    monkeypatch.setattr(gdp_filter, "cap", lambda *a, **k: 12.0)
    assert toy.cap == 12.0
    assert Ledger.open(toy).cohorts()[0].cap == fixed


def test_a_ledger_of_version_0_1_is_one_sentence() -> None:
    fixed = {"name": "toy", "order": 4.2, "rdp_cap": 5.0, "lifetime_epsilon": 5.0}
    fixed |= {"target_delta": 1e-6, "n_public": 20000}
    entry = Entry.after(Head(), "CREATED", fixed)
    with pytest.raises(LedgerBroken, match=r"version 0\.1") as caught:
        State().replay(entry)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("moment", ["prepare", "settle"])
def test_a_crash_during_creation_leaves_nothing_or_what_is_completed(
    tmp_path: Path, monkeypatch, moment: str
) -> None:
    toy = population(tmp_path)

    class Crash(BaseException):
        pass

    real = getattr(identity, moment)

    def crash(*args):
        if moment == "prepare":
            real(*args)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(identity, moment, crash)
        with pytest.raises(Crash):
            Ledger.open(toy)
    assert not toy.key_path.exists()
    ledger = Ledger.open(toy)
    assert ledger.verify().entries == 2
    assert len(toy.member_key()) == 32


def _open(path: str, gate) -> None:
    gate.wait()
    Ledger.open(Population.load(path))


def test_processes_that_create_at_once_share_one_ledger(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(3)
    path = str(population_file(tmp_path))
    workers = [context.Process(target=_open, args=(path, gate)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert Ledger.open(Population.load(path)).verify().entries == 2


def test_a_busy_ledger_is_one_sentence(tmp_path: Path) -> None:
    toy = used(tmp_path)
    busy, waiting = Ledger.open(toy), Ledger.open(toy, wait=0.05)
    with busy._journal._store.writing(), pytest.raises(LedgerUnavailable, match="locked"):
        waiting.open_reservation("first")
    waiting.open_reservation("first")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    toy = population(tmp_path)
    (tmp_path / "ledger").write_text("a file is in the way")
    with pytest.raises(LedgerUnavailable, match="cannot be"):
        Ledger.open(toy)


def test_threads_share_one_ledger(tmp_path: Path) -> None:
    ledger = Ledger.open(population(tmp_path, lifetime_epsilon=50.0))

    def reserve(number: int) -> None:
        ledger.reserve(plan(f"release-{number}"), approved_by="x", schema_public=False)
        ledger.open_reservation(f"release-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(reserve, range(12)))
    assert ledger.verify().entries == 2 + 24
