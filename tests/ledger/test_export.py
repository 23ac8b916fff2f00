"""An exported chain verifies by itself, and every change of it is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagster_project.ledger import Ledger, LedgerBehindAnchor, LedgerBroken, PopulationChanged
from dagster_project.ledger.chain import digest
from dagster_project.ledger.export import export_lines, verify_lines
from dagster_project.ledger.population import Population
from tests.ledger.toys import SHA, executed, plan, population


@pytest.fixture
def toy(tmp_path: Path) -> Population:
    toy = population(tmp_path)
    ledger = Ledger.open(toy)
    ledger.reserve(plan(), approved_by="Ä. Steward", schema_public=False)
    ledger.open_reservation("first")
    ledger.admit("first", ["a", "b"], ["c"])
    ledger.begin("first", "table_model", executed(plan(), "table_model"))
    ledger.commit("first", "table_model", {"table.npz": SHA})
    toy = toy.write_anchor(ledger.anchor())
    ledger.close()
    return toy


@pytest.fixture
def lines(toy: Population) -> list[str]:
    ledger = Ledger.open(toy)
    lines = list(export_lines(ledger.entries()))
    ledger.close()
    return lines


def test_the_export_alone_says_what_the_ledger_says(toy: Population, lines: list[str]) -> None:
    state = verify_lines([f"{line}\n" for line in lines], toy)
    ledger = Ledger.open(toy)
    assert state.head == ledger.anchor()
    assert float(state.cohorts["founding"].spent) == ledger.cohorts()[0].spent
    assert state.releases["first"] == ledger.release("first")


def test_keys_in_another_order_are_the_same_export(toy: Population, lines: list[str]) -> None:
    shuffled = [json.dumps(dict(reversed(json.loads(line).items())), indent=None) for line in lines]
    assert verify_lines(shuffled, toy).head == verify_lines(lines, toy).head


@pytest.mark.parametrize("number", range(7))
def test_a_changed_line_is_named(lines: list[str], number: int) -> None:
    changed = json.loads(lines[number])
    changed["entry"]["at"] = "2001-01-01T00:00:00.000Z"
    lines[number] = json.dumps(changed)
    with pytest.raises(LedgerBroken, match=f"entry {number + 1} ") as caught:
        verify_lines(lines)
    assert caught.value.entry == number + 1


@pytest.mark.parametrize("number", range(6))
def test_a_line_taken_out_is_named(lines: list[str], number: int) -> None:
    del lines[number]
    with pytest.raises(LedgerBroken, match=f"entry {number + 1} "):
        verify_lines(lines)


def test_a_cut_tail_needs_the_anchor(toy: Population, lines: list[str]) -> None:
    verify_lines(lines[:-1])
    with pytest.raises(LedgerBehindAnchor):
        verify_lines(lines[:-1], toy)


def test_a_chain_forged_with_all_its_hashes_has_a_wrong_price(lines: list[str]) -> None:
    forged, previous = [], "0" * 64
    for line in lines:
        entry = json.loads(line)["entry"]
        if entry["kind"] == "RESERVED":
            entry["body"]["charges"] = {"founding": 1e-9}
        entry["prev"] = previous
        previous = digest(json.dumps(entry, sort_keys=True, separators=(",", ":")))
        forged.append(json.dumps({"hash": previous, "entry": entry}))
    with pytest.raises(LedgerBroken, match=r"entry 3 .* charges"):
        verify_lines(forged)


def test_another_population_is_not_taken_for_this_one(tmp_path: Path, lines: list[str]) -> None:
    other = population(tmp_path / "other", population="others")
    with pytest.raises(PopulationChanged, match="'toy'"):
        verify_lines(lines, other)


@pytest.mark.parametrize("line", ["", "{}", "[1]", "nothing", '{"hash": "x", "entry": 3}', "null"])
def test_what_is_no_export_is_one_sentence(lines: list[str], line: str) -> None:
    for given in ([line], [*lines, line]):
        with pytest.raises(LedgerBroken) as caught:
            verify_lines(given)
        assert "\n" not in str(caught.value)
    with pytest.raises(LedgerBroken, match="empty"):
        verify_lines([])
