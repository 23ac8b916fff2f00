"""Ctrl-C: one line that says what is spent and how the release goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from dagster_project.cli.interruption import sentence, was_interrupted
from dagster_project.ledger import Ledger
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


def test_an_interruption_is_told_from_a_failure() -> None:
    def error(name: str, cause=None) -> SimpleNamespace:
        return SimpleNamespace(cls_name=name, cause=cause, context=None)

    assert was_interrupted(error("Failure", error("DagsterExecutionInterruptedError")))
    assert not was_interrupted(error("Failure", error("ValueError")))
