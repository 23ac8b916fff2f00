"""Ctrl-C: one line that says what is spent and how the release goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dagster_project.cli import main as cli
from dagster_project.cli.interruption import sentence, was_interrupted
from dagster_project.ledger import Ledger
from dagster_project.ledger.gdp_filter import percent
from tests.ledger.test_stop import PLAN, count
from tests.ledger.toys import SHA, executed, gaussian, plan, population

AGAIN = ["release", "--data", "my data", "--epsilon", "1"]
COMMAND = "dptabimage release --data 'my data' --epsilon 1"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger.open(population(tmp_path))
    a_plan = plan("first", gaussian(), gaussian(9.0, stage="mean_pairs"))
    ledger.reserve(a_plan, approved_by="steward", schema_public=False)
    return ledger


def test_nothing_is_spent_before_the_records_are_read(tmp_path: Path, ledger: Ledger) -> None:
    assert sentence(tmp_path, None, AGAIN) == (
        f"stopped; nothing is reserved or spent; to start again: {COMMAND}"
    )
    text = sentence(tmp_path, "first", AGAIN)
    assert "reserved and nothing is spent yet" in text and COMMAND in text


def test_what_is_spent_and_that_resuming_is_free(tmp_path: Path, ledger: Ledger) -> None:
    ledger.open_reservation("first")
    expected = "epsilon 1.000 is spent on release first, and resuming costs nothing more: "
    assert sentence(tmp_path, "first", AGAIN) == f"stopped; {expected}{COMMAND}"
    begun = plan("first", gaussian())
    ledger.begin("first", "table_model", executed(begun, "table_model"))
    text = sentence(tmp_path, "first", AGAIN)
    assert "while table_model drew its noise and cannot be resumed" in text
    ledger.commit("first", "table_model", {"table.npz": SHA})
    assert COMMAND in sentence(tmp_path, "first", AGAIN)


def test_what_has_ended_is_not_said_to_go_on(tmp_path: Path, capsys) -> None:
    """Such as Ctrl-C during the look that follows a count of too few people."""
    ledger = Ledger.open(population(tmp_path))
    ledger.reserve(PLAN, approved_by="steward", schema_public=False)
    whole = ledger.cohort("founding").share
    ledger.open_reservation("first")
    count(ledger)
    ledger.stop("first")
    share = ledger.cohort("founding").share
    ledger.reserve(plan("second"), approved_by="steward", schema_public=False)
    ledger.void("second")
    ledger.close()
    text = sentence(tmp_path, "first", AGAIN)
    assert "too few people, and cannot be resumed" in text and COMMAND not in text
    assert f"{percent(share)} of the lifetime budget is spent on it" in text
    text = sentence(tmp_path, "second", AGAIN)
    assert "given back and nothing is spent" in text and COMMAND not in text
    assert cli.main(["ledger", "--root", str(tmp_path)]) == 0
    stopped, void = (line for line in capsys.readouterr().out.splitlines() if " by steward" in line)
    assert f"planned  STOPPED   {percent(share)} of founding" in stopped and share < whole / 10
    assert "planned  VOID      0 % of founding" in void


def test_an_interruption_is_told_from_a_failure() -> None:
    def error(name: str, cause=None) -> SimpleNamespace:
        return SimpleNamespace(cls_name=name, cause=cause, context=None)

    assert was_interrupted(error("Failure", error("DagsterExecutionInterruptedError")))
    assert not was_interrupted(error("Failure", error("ValueError")))
