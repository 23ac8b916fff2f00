"""The ledger in PostgreSQL, against a real server: same rules, exact grants, nothing altered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from dagster_project.audits import crowds, postgres_server
from dagster_project.audits.postgres_server import Server
from dagster_project.audits.sequences import audit_sequences
from dagster_project.ledger import (
    KeyLost,
    Ledger,
    LedgerBehindAnchor,
    LedgerBroken,
    LedgerMissing,
    LedgerUnavailable,
    PopulationChanged,
)
from dagster_project.ledger.chain import digest
from dagster_project.ledger.population import Population
from dagster_project.ledger.postgresql import PostgresStore
from tests.ledger.test_model import stored
from tests.ledger.toys import SHA, executed, plan, population

if postgres_server.programs() is None:
    reason = "no PostgreSQL server is installed: the ledger in PostgreSQL is NOT tested here"
    print(f"\n{reason} (on Debian: apt install postgresql)", file=sys.__stderr__)
    pytest.skip(reason, allow_module_level=True)

ENTRIES = 8


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres_server.server(memory=True) as running:
        yield running


@pytest.fixture
def toy(tmp_path: Path, server: Server) -> Population:
    """A population whose anchored ledger has a committed release and a reserved one."""
    toy = population(tmp_path, ledger=server.new())
    ledger = Ledger.open(toy)
    for name in ("first", "second"):
        ledger.reserve(plan(name), approved_by="steward", schema_public=False)
    ledger.open_reservation("first")
    ledger.begin("first", "table_model", executed(plan(), "table_model"))
    ledger.commit("first", "table_model", {"model.npz": SHA})
    ledger.attach("first", text="grün", git_commit="abc")
    toy = toy.write_anchor(ledger.anchor())
    ledger.close()
    assert toy.anchor is not None and toy.anchor.entries == ENTRIES
    return toy


def run(toy: Population, *statements: str) -> None:
    """SQL behind the ledger's back, its triggers switched off and on again."""
    guards = ("entries_no_change", "entries_in_order")
    Server.sql(
        toy.ledger,
        *(f"ALTER TABLE entries DISABLE TRIGGER {name}" for name in guards),
        *statements,
        *(f"ALTER TABLE entries ENABLE ALWAYS TRIGGER {name}" for name in guards),
    )


def test_random_sequences_match_the_model(server: Server) -> None:
    report = audit_sequences(sequences=6, place=lambda: stored(ledger=server.new()))
    assert report.holds, report


def test_processes_at_once_are_granted_exactly_what_fits(tmp_path: Path, server: Server) -> None:
    report = crowds.audit_crowd(tmp_path, processes=4, each=20, ledger=server.new())
    assert report.holds and report.granted == 53, report
    Ledger.open(Population.load(tmp_path / "population.yaml")).verify()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET entry = entry || ' ' WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 8",
        "TRUNCATE entries",
        "INSERT INTO entries SELECT 3, entry, hash FROM entries WHERE seq = 4 "
        "ON CONFLICT (seq) DO UPDATE SET entry = 'x'",
        "INSERT INTO entries VALUES (12, '{}', 'x')",
    ],
)
def test_the_database_itself_refuses_changes(toy: Population, statement: str) -> None:
    for before in ("SELECT 1", "SET session_replication_role = replica"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            Server.sql(toy.ledger, before, statement)
    assert Ledger.open(toy).verify().entries == ENTRIES


@pytest.mark.parametrize("seq", [1, 3, ENTRIES])
def test_a_changed_character_is_named(toy: Population, seq: int) -> None:
    run(toy, f"UPDATE entries SET entry = replace(entry, '{{', '{{ ') WHERE seq = {seq}")
    with pytest.raises(LedgerBroken, match=f"entry {seq} ") as caught:
        Ledger.open(toy)
    assert caught.value.entry == seq


@pytest.mark.parametrize("seq", [1, 4])
def test_a_deleted_row_is_named(toy: Population, seq: int) -> None:
    run(toy, f"DELETE FROM entries WHERE seq = {seq}")
    with pytest.raises(LedgerBroken, match=f"entry {seq} "):
        Ledger.open(toy)


def test_an_entry_forged_with_its_own_hash_breaks_the_one_after(toy: Population) -> None:
    text = Ledger.open(toy).entries()[2].text.replace("steward", "someone")
    run(toy, f"UPDATE entries SET entry = '{text}', hash = '{digest(text)}' WHERE seq = 3")
    with pytest.raises(LedgerBroken, match=r"entry 4 .* follow"):
        Ledger.open(toy)


def test_a_truncated_tail_is_behind_the_anchor(toy: Population) -> None:
    run(toy, "DELETE FROM entries WHERE seq > 5")
    with pytest.raises(LedgerBehindAnchor, match=f"entry {ENTRIES}"):
        Ledger.open(toy)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER entries_no_change ON entries",
        "ALTER TABLE entries DISABLE TRIGGER entries_no_change",
        "CREATE OR REPLACE FUNCTION entries_no_change() RETURNS trigger LANGUAGE plpgsql "
        "AS $$BEGIN RETURN NULL; END$$",
    ],
)
def test_a_guard_that_no_longer_guards_is_seen(toy: Population, statement: str) -> None:
    Server.sql(toy.ledger, statement)
    with pytest.raises(LedgerBroken, match="guard entries_no_change"):
        Ledger.open(toy).verify()


def test_a_dropped_table_or_database_is_a_missing_ledger(
    toy: Population, tmp_path: Path, server: Server
) -> None:
    Server.sql(toy.ledger, "DROP TABLE entries")
    with pytest.raises(LedgerMissing):
        Ledger.open(toy)
    gone = population(tmp_path, ledger=server.url(database="gone"))
    with pytest.raises(LedgerUnavailable, match="does not exist"):
        Ledger.open(gone)


def test_another_population_or_a_machine_without_the_key_is_refused(
    toy: Population, tmp_path: Path
) -> None:
    with pytest.raises(KeyLost):
        Ledger.open(population(tmp_path / "other-machine", ledger=toy.ledger))
    with pytest.raises(PopulationChanged, match="name"):
        Ledger.open(population(tmp_path / "others", population="others", ledger=toy.ledger))


def test_members_are_kept_and_guarded(toy: Population) -> None:
    ledger = Ledger.open(toy)
    people = [f"person-{number}" for number in range(500)]
    assert ledger.admit("first", people, held_out=people[:7]).sum() == 493
    assert ledger.admit("first", people).sum() == 493
    ledger.verify()
    for statement in ("DELETE FROM members", "UPDATE members SET cohort = 'x'", "TRUNCATE members"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            Server.sql(toy.ledger, statement)
    Server.sql(toy.ledger, "INSERT INTO members VALUES ('x', 'founding')")
    with pytest.raises(LedgerBroken, match="members"):
        ledger.verify()


def test_a_writer_that_waits_too_long_is_one_sentence(toy: Population) -> None:
    busy, waiting = Ledger.open(toy), Ledger.open(toy, wait=0.05)
    with (
        busy._journal._store.writing(),
        pytest.raises(LedgerUnavailable, match="lock timeout") as caught,
    ):
        waiting.open_reservation("second")
    assert "\n" not in str(caught.value)
    waiting.open_reservation("second")


def test_a_killed_writer_leaves_its_lock_and_no_entry(toy: Population, tmp_path: Path) -> None:
    script = (
        "import os, signal\n"
        "from dagster_project.ledger import Ledger, store\n"
        "from dagster_project.ledger.population import Population\n"
        f"ledger = Ledger.open(Population.load({str(toy.path)!r}))\n"
        "real = store.Transaction.append\n"
        "def append(self, entry):\n"
        "    real(self, entry)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.Transaction.append = append\n"
        "ledger.void('second')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    ledger = Ledger.open(toy, wait=10)
    assert ledger.release("second").status == "RESERVED"
    ledger.void("second")
    assert ledger.verify().entries == ENTRIES + 1


def test_what_was_returned_survives_the_server_s_crash(tmp_path: Path, monkeypatch) -> None:
    """Its own background writer sleeps, so that only what the ledger waits for is kept."""
    with postgres_server.server("wal_writer_delay=10000", "autovacuum=off", memory=True) as running:
        toy = population(tmp_path, ledger=running.new())
        ledger, other = Ledger.open(toy), Ledger.open(toy)
        ledger.reserve(plan("first"), approved_by="x", schema_public=False)
        ledger.reserve(plan("second"), approved_by="x", schema_public=False)
        with monkeypatch.context() as patch:
            patch.setattr(PostgresStore, "_harden", lambda *_: None)
            other.open_reservation("first")
        # Who finds the answer recorded by another waits for the other's entry.
        assert ledger.open_reservation("first").status == "OPENED"
        running.crash()
        assert ledger.release("first").status == "OPENED"
        with monkeypatch.context() as patch:
            patch.setattr(PostgresStore, "_harden", lambda *_: None)
            other.open_reservation("second")
        running.crash()
        assert ledger.release("second").status == "RESERVED"  # the fault is one that is seen


def test_a_server_that_does_not_sync_is_refused(tmp_path: Path) -> None:
    with postgres_server.server("fsync=off", memory=True) as running:
        toy = population(tmp_path, ledger=running.new())
        with pytest.raises(LedgerUnavailable, match="fsync off"):
            Ledger.open(toy)
    with pytest.raises(LedgerUnavailable):  # nobody answers any more
        Ledger.open(toy, wait=1)
