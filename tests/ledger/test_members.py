"""People keep their cohort, held-out people never train, and only who is paid for is read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from dagster_project.ledger import (
    ConformanceError,
    Ledger,
    LedgerBroken,
    LedgerError,
    PlanRefused,
    PopulationChanged,
    WrongState,
)
from dagster_project.ledger.person import account_of
from tests.ledger.toys import gaussian, plan, population


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(population(tmp_path, lifetime_epsilon=50.0))


def opened(ledger: Ledger, name: str, cohort: str = "all") -> None:
    wanted = plan(name, gaussian(cohort=cohort))
    ledger.reserve(wanted, approved_by="x", schema_public=False)
    ledger.open_reservation(name)


def admitted(ledger: Ledger, name: str, people: str, held_out: str = "") -> str:
    """One letter is one person."""
    mask = ledger.admit(name, list(people), list(held_out))
    return "".join(one for one, yes in zip(people, mask, strict=True) if yes)


def test_returning_people_keep_their_cohort_and_new_ones_get_the_newest(ledger: Ledger) -> None:
    opened(ledger, "first")
    assert admitted(ledger, "first", "abc") == "abc"
    ledger.add_cohort("newcomers", n_public=100, approved_by="x")
    opened(ledger, "second", "newcomers")
    assert admitted(ledger, "second", "bdac") == "d"
    opened(ledger, "third", "founding")
    assert admitted(ledger, "third", "abcd") == "abc"
    opened(ledger, "fourth")
    assert admitted(ledger, "fourth", "dcbae") == "dcbae"
    opened(ledger, "fifth", "newcomers")
    assert admitted(ledger, "fifth", "abcde") == "de"
    ledger.verify()


def test_a_person_is_told_which_releases_they_paid_for(ledger: Ledger) -> None:
    opened(ledger, "first")
    admitted(ledger, "first", "ab", "h")
    ledger.add_cohort("newcomers", n_public=100, approved_by="x")
    opened(ledger, "second", "newcomers")
    admitted(ledger, "second", "abc")
    opened(ledger, "third")
    ledger.reserve(plan("void", gaussian()), approved_by="x", schema_public=False)
    ledger.void("void")
    paid = {who: account_of(ledger, who) for who in (" a", "c", "h", "z", "")}
    assert [one.release_id for one in paid[" a"].releases] == ["first", "third"]
    assert [one.release_id for one in paid["c"].releases] == ["second", "third"]
    assert paid["c"].account == ledger.cohort("newcomers")
    assert paid["h"].cohort == "held-out" and "no mechanism" in str(paid["h"])
    assert paid["z"].cohort is paid[""].cohort is None and "ever seen" in str(paid["z"])
    assert "cohort founding: 2 releases charged, " in str(paid[" a"])


def test_new_people_are_left_out_of_an_older_cohort_and_stay_unknown(ledger: Ledger) -> None:
    ledger.add_cohort("newcomers", n_public=100, approved_by="x")
    opened(ledger, "first", "founding")
    assert admitted(ledger, "first", "ab") == ""
    opened(ledger, "second", "newcomers")
    assert admitted(ledger, "second", "ab") == "ab"


def test_a_cohort_opened_after_the_reservation_is_not_read_for_it(ledger: Ledger) -> None:
    opened(ledger, "first")
    ledger.add_cohort("newcomers", n_public=100, approved_by="x")
    opened(ledger, "second", "newcomers")
    assert admitted(ledger, "second", "a") == "a"
    assert admitted(ledger, "first", "ab") == "b"
    opened(ledger, "third", "founding")
    assert admitted(ledger, "third", "b") == "b"


def test_held_out_people_never_train_whatever_the_data_says_later(ledger: Ledger) -> None:
    opened(ledger, "first")
    assert admitted(ledger, "first", "abc", held_out="cde") == "ab"
    assert admitted(ledger, "first", "abcdef") == "abf"
    assert admitted(ledger, "first", "abf", held_out="a") == "abf"  # a trained before


def test_nobody_is_admitted_before_opened(ledger: Ledger) -> None:
    ledger.reserve(plan("first"), approved_by="x", schema_public=False)
    with pytest.raises(WrongState):
        ledger.admit("first", ["a"])
    ledger.void("first")
    with pytest.raises(WrongState):
        ledger.admit("first", ["a"])
    with pytest.raises(LedgerError):
        ledger.admit("second", ["a"])
    opened(ledger, "third")
    assert admitted(ledger, "third", "") == ""


def test_one_reading_cannot_serve_mechanisms_of_two_cohorts(ledger: Ledger) -> None:
    ledger.add_cohort("newcomers", n_public=100, approved_by="x")
    mechanisms = (gaussian(cohort="founding"), gaussian(stage="image_model", cohort="newcomers"))
    ledger.reserve(plan("first", *mechanisms), approved_by="x", schema_public=False)
    ledger.open_reservation("first")
    with pytest.raises(ConformanceError, match="different cohorts"):
        ledger.admit("first", ["a"])
    mechanisms = (gaussian(cohort="all"), gaussian(stage="image_model", cohort="newcomers"))
    ledger.reserve(plan("second", *mechanisms), approved_by="x", schema_public=False)
    ledger.open_reservation("second")
    assert ledger.admit("second", ["a"]).tolist() == [True]
    opened(ledger, "third", "founding")
    assert ledger.admit("third", ["a"]).tolist() == [False]


def test_the_rule_of_ids_is_fixed_at_the_first_reading(ledger: Ledger) -> None:
    opened(ledger, "first")
    ledger.admit("first", ["0012"], id_rule="exact")
    with pytest.raises(PopulationChanged, match="'integer'"):
        ledger.admit("first", ["12"], id_rule="integer")


@pytest.mark.parametrize(("name", "size"), [("a b", 5), ("new", 0), ("new", True), ("", 5)])
def test_a_cohort_needs_a_name_and_a_size(ledger: Ledger, name: str, size: int) -> None:
    with pytest.raises(PlanRefused):
        ledger.add_cohort(name, n_public=size, approved_by="x")


@pytest.mark.parametrize("name", ["all", "held-out", "founding"])
def test_names_of_cohorts_that_are_taken(ledger: Ledger, name: str) -> None:
    with pytest.raises(WrongState, match="exists"):
        ledger.add_cohort(name, n_public=5, approved_by="x")


def behind_the_back(folder: Path, *statements: str) -> None:
    connection = sqlite3.connect(folder / "ledger/ledger.sqlite")
    guards = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'"))
    for name in guards:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for sql in guards.values():
        if "members" not in sql or "DROP" not in str(statements):
            connection.execute(sql)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM members",
        "DELETE FROM members WHERE cohort = 'held-out'",
        "UPDATE members SET cohort = 'founding' WHERE cohort = 'held-out'",
        "INSERT INTO members VALUES (x'ab', 'founding')",
        "DROP TABLE members",
    ],
)
def test_an_altered_table_of_members_is_refused(
    ledger: Ledger, tmp_path: Path, statement: str
) -> None:
    opened(ledger, "first")
    admitted(ledger, "first", "ab", held_out="c")
    behind_the_back(tmp_path, statement)
    with pytest.raises(LedgerBroken, match="members"):
        ledger.verify()
    with pytest.raises(LedgerBroken, match="members"):
        ledger.admit("first", ["d"])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM members",
        "UPDATE members SET cohort = 'x'",
        "INSERT OR REPLACE INTO members SELECT member, 'x' FROM members",
    ],
)
def test_the_database_refuses_changes_of_members(
    ledger: Ledger, tmp_path: Path, statement: str
) -> None:
    opened(ledger, "first")
    admitted(ledger, "first", "ab")
    connection = sqlite3.connect(tmp_path / "ledger/ledger.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    connection.close()


def test_the_chain_tells_neither_ids_nor_whether_anybody_was_new(
    ledger: Ledger, tmp_path: Path
) -> None:
    opened(ledger, "first")
    people = [f"person-{number}" for number in range(50)]
    for _ in range(2):
        ledger.admit("first", people)
    first, again = (entry for entry in ledger.entries() if entry.kind == "MEMBERS")
    assert first.body["members"] != again.body["members"]
    assert first.body.keys() == again.body.keys() and len(first.text) == len(again.text)
    ledger.close()
    for file in (tmp_path / "ledger").iterdir():
        assert b"person-" not in file.read_bytes()


def test_what_is_refused_registers_nobody(ledger: Ledger, monkeypatch) -> None:
    """The people and their seal are one transaction."""
    from dagster_project.ledger.store import Transaction

    opened(ledger, "first")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "append", crash)
        with pytest.raises(KeyboardInterrupt):
            ledger.admit("first", ["a"])
    ledger.verify()
    ledger.add_cohort("newcomers", n_public=5, approved_by="x")
    opened(ledger, "second", "newcomers")
    assert ledger.admit("second", ["a"]).tolist() == [True]
