"""Random sequences of operations against a plain model: same answers, same sums, no overspend."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dagster_project.audits.sequences import audit_sequences
from dagster_project.ledger import Ledger, state
from tests.ledger.toys import population


@contextmanager
def stored(**changes: Any) -> Iterator[Callable[[], Ledger]]:
    """A place for a ledger in a file, or at the URL `ledger`."""
    with tempfile.TemporaryDirectory() as folder:
        people = population(Path(folder), population="audit", **changes)
        yield lambda: Ledger.open(people)
        ledger = Ledger.open(people)
        assert ledger.verify() == ledger.anchor()
        ledger.close()


def test_a_stored_ledger_is_the_model_s_equal() -> None:
    report = audit_sequences(sequences=10, place=stored)
    assert report.holds, report


def test_many_sequences_match_the_model() -> None:
    report = audit_sequences(sequences=200)
    assert report.holds and report.allowed > report.operations / 5, report


def spend_nothing(*_: Any) -> None:
    """A ledger that forgets what it granted."""


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_require_room", spend_nothing),
        ("_spend", spend_nothing),
        ("_require_uncommitted", staticmethod(spend_nothing)),
        ("_set_stage", spend_nothing),
    ],
)
def test_a_planted_fault_diverges_from_the_model(monkeypatch, name: str, fault: Any) -> None:
    monkeypatch.setattr(state.State, name, fault)
    report = audit_sequences(sequences=40)
    assert not report.holds and report.divergence, report
