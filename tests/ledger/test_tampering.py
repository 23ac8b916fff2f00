"""Every change made behind the ledger's back is seen, and the entry is named."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from dagster_project.ledger import Ledger, LedgerBehindAnchor, LedgerBroken
from dagster_project.ledger.chain import Entry, Head, digest
from dagster_project.ledger.population import Population
from dagster_project.privacy.plan import canonical_json
from tests.ledger.toys import SHA, executed, plan, population

ENTRIES = 8


@pytest.fixture
def toy(tmp_path: Path) -> Population:
    """A population whose anchored ledger has a committed release and a reserved one."""
    toy = population(tmp_path)
    ledger = Ledger.open(toy)
    for name in ("first", "second"):
        ledger.reserve(plan(name), approved_by="steward", schema_public=False)
    ledger.open_reservation("first")
    ledger.begin("first", "table_model", executed(plan(), "table_model"))
    ledger.commit("first", "table_model", {"model.npz": SHA})
    ledger.attach("first", git_commit="abc")
    assert ledger.anchor().entries == ENTRIES
    toy = toy.write_anchor(ledger.anchor())
    ledger.close()
    return toy


def database(toy: Population) -> Path:
    return toy.path.parent / "ledger/ledger.sqlite"


def run(toy: Population, *statements: str, guarded: bool = False) -> None:
    """SQL behind the ledger's back, its triggers taken away and put back."""
    connection = sqlite3.connect(database(toy))
    guards = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'"))
    for name in guards if not guarded else ():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for sql in guards.values() if not guarded else ():
        connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET entry = entry || ' '",
        "DELETE FROM entries WHERE seq = 8",
        "INSERT OR REPLACE INTO entries SELECT 3, entry, hash || '0' FROM entries WHERE seq = 4",
        "INSERT INTO entries VALUES (12, '{}', 'x')",
    ],
)
def test_the_database_itself_refuses_changes(toy: Population, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        run(toy, statement, guarded=True)
    assert Ledger.open(toy).verify().entries == ENTRIES


@pytest.mark.parametrize("seq", range(1, ENTRIES + 1))
def test_a_changed_character_is_named(toy: Population, seq: int) -> None:
    run(toy, f"UPDATE entries SET entry = replace(entry, '{{', '{{ ') WHERE seq = {seq}")
    with pytest.raises(LedgerBroken, match=f"entry {seq} ") as caught:
        Ledger.open(toy)
    assert caught.value.entry == seq


@pytest.mark.parametrize("seq", range(1, ENTRIES))
def test_a_deleted_row_is_named(toy: Population, seq: int) -> None:
    run(toy, f"DELETE FROM entries WHERE seq = {seq}")
    with pytest.raises(LedgerBroken, match=f"entry {seq} ") as caught:
        Ledger.open(toy)
    assert caught.value.entry == seq


def test_swapped_rows_are_seen(toy: Population) -> None:
    run(
        toy,
        "UPDATE entries SET seq = -3 WHERE seq = 3",
        "UPDATE entries SET seq = 3 WHERE seq = 4",
        "UPDATE entries SET seq = 4 WHERE seq = -3",
    )
    with pytest.raises(LedgerBroken, match="entry 3 "):
        Ledger.open(toy)


@pytest.mark.parametrize("kept", range(2, ENTRIES))
def test_a_truncated_tail_is_behind_the_anchor(toy: Population, kept: int) -> None:
    run(toy, f"DELETE FROM entries WHERE seq > {kept}")
    with pytest.raises(LedgerBehindAnchor, match=f"entry {ENTRIES}"):
        Ledger.open(toy)


def rehash(toy: Population, change) -> None:
    """Rewrites the chain with all its hashes, as a forger would."""
    connection = sqlite3.connect(database(toy))
    rows = connection.execute("SELECT entry FROM entries ORDER BY seq").fetchall()
    connection.close()
    head, statements = Head(), []
    for (text,) in rows:
        content = json.loads(text)
        change(content)
        content["prev"] = head.head
        new = json.dumps(content, sort_keys=True, separators=(",", ":"))
        head = Head(entries=content["seq"], head=digest(new))
        quoted = new.replace("'", "''")
        statements.append(
            f"UPDATE entries SET entry = '{quoted}', hash = '{head.head}' "
            f"WHERE seq = {content['seq']}"
        )
    run(toy, *statements)


def test_a_chain_forged_with_all_its_hashes_misses_the_anchor(toy: Population) -> None:
    def cheaper(content) -> None:
        if content["kind"] == "RESERVED":
            content["body"]["charges"] = {"founding": 1e-9}

    rehash(toy, cheaper)
    with pytest.raises(LedgerBehindAnchor):
        Ledger.open(toy)
    unanchored = population(toy.path.parent)
    with pytest.raises(LedgerBroken, match=r"entry 3 .* charges"):
        Ledger.open(unanchored).verify(reprice=True)


def test_an_entry_forged_with_its_own_hash_breaks_the_one_after(toy: Population) -> None:
    text = Ledger.open(toy).entries()[2].text.replace("steward", "someone")
    run(toy, f"UPDATE entries SET entry = '{text}', hash = '{digest(text)}' WHERE seq = 3")
    with pytest.raises(LedgerBroken, match=r"entry 4 .* follow"):
        Ledger.open(toy)


def test_a_forged_entry_that_is_not_lawful_is_named(toy: Population) -> None:
    def earlier(content) -> None:
        if content["seq"] == 5:
            content["kind"] = "VOID"

    rehash(toy, earlier)
    with pytest.raises(LedgerBroken, match=r"entry 6 .* not lawful"):
        Ledger.open(population(toy.path.parent))


def test_missing_guards_are_seen(toy: Population) -> None:
    run(toy, "DROP TRIGGER entries_no_update", guarded=True)
    with pytest.raises(LedgerBroken, match="guard"):
        Ledger.open(toy).verify()


def test_every_flipped_byte_is_seen_or_harmless(toy: Population) -> None:
    """Bytes of the file itself, entries and SQLite's own pages alike."""
    whole = database(toy).read_bytes()
    honest = [entry.text for entry in Ledger.open(toy).entries()]
    for path in database(toy).parent.glob("ledger.sqlite-*"):
        path.unlink()
    seen = 0
    for position in range(7, len(whole), 307):
        flipped = bytearray(whole)
        flipped[position] ^= 0x20
        database(toy).write_bytes(flipped)
        try:
            ledger = Ledger.open(toy, wait=0)
            assert [entry.text for entry in ledger.entries()] == honest
            ledger.close()
        except LedgerBroken:
            seen += 1
        except Exception as error:
            assert type(error).__name__ in ("LedgerMissing", "LedgerUnavailable"), repr(error)
            seen += 1
        for path in database(toy).parent.glob("ledger.sqlite-*"):
            path.unlink()
    assert seen > 10


def test_a_ledger_replaced_while_open_is_not_continued(toy: Population) -> None:
    ledger = Ledger.open(toy)
    run(toy, f"DELETE FROM entries WHERE seq = {ENTRIES}")
    for call in (lambda: ledger.open_reservation("second"), ledger.cohorts, ledger.verify):
        with pytest.raises(LedgerBroken, match="replaced"):
            call()


def test_an_entry_reads_back_as_written() -> None:
    entry = Entry.after(Head(), "ATTACHED", {"text": "grün", "numbers": [1, 0.1]})
    assert len(bytes.fromhex(entry.nonce)) == 16
    assert Entry.parse(1, entry.text, entry.hash, Head()) == entry


def test_who_knows_all_of_an_entry_but_its_nonce_cannot_confirm_it() -> None:
    """A head is public, and what comes after it names the data's version."""
    before = Head(entries=2, head="a" * 64)
    body = {"release_id": "first", "plan": {"data_version": "md5:guessed"}}
    entry = Entry.after(before, "RESERVED", body)
    known = {"seq": 3, "prev": before.head, "kind": "RESERVED", "at": entry.at, "body": body}
    assert known == {k: v for k, v in json.loads(entry.text).items() if k != "nonce"}
    hashes = {digest(canonical_json(known)), digest(canonical_json(known | {"nonce": ""}))}
    assert entry.hash not in hashes
    assert len({Entry.after(before, "RESERVED", body).nonce for _ in range(100)}) == 100
