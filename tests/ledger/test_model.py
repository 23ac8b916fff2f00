"""Random sequences of operations against a plain model: same answers, same sums, no overspend."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dagster_project.audits import sequences
from dagster_project.audits.sequences import STEPS, Model, audit_sequences, small_plan
from dagster_project.ledger import Ledger, LedgerError, state
from dagster_project.ledger.population import Population
from tests.ledger.toys import population

NAMES = st.sampled_from(sequences.NAMES)
STAGES = st.sampled_from(sequences.STAGES)
SIGMAS = st.sampled_from(sequences.SIGMAS)
COHORTS = st.sampled_from([*sequences.COHORTS, "all"])


class LedgerAgainstModel(RuleBasedStateMachine):
    """On a real file, with reopening: whatever the model refuses, the ledger must refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.population = self.people(Path(self.folder.name))
        self.ledger = Ledger.open(self.population)
        self.ledger.add_cohort("newcomers", n_public=100, approved_by="steward")
        self.model = Model(cap=Fraction(self.population.cap), leak=self.population.leak)

    def people(self, folder: Path) -> Population:
        return population(folder, population="audit")

    def teardown(self) -> None:
        assert self.ledger.verify() == Ledger.open(self.population).anchor()
        self.ledger.close()
        self.folder.cleanup()

    def both(self, kind: str, *arguments: Any) -> None:
        if getattr(self.model, kind)(*arguments):
            sequences.perform(self.ledger, self.model, kind, arguments)
        else:
            with pytest.raises(LedgerError):
                sequences.perform(self.ledger, self.model, kind, arguments)

    @rule(name=NAMES, sigma=SIGMAS, cohort=COHORTS, trains=st.booleans())
    def reserve(self, name: str, sigma: float, cohort: str, trains: bool) -> None:
        self.both("reserve", small_plan(name, sigma, cohort, trains))

    @rule(name=NAMES)
    def void(self, name: str) -> None:
        self.both("void", name)

    @rule(name=NAMES)
    def open_reservation(self, name: str) -> None:
        self.both("open_reservation", name)

    @rule(name=NAMES, stage=STAGES, faithful=st.sampled_from([True, True, True, False]))
    def begin(self, name: str, stage: str, faithful: bool) -> None:
        self.both("begin", name, stage, faithful)

    @rule(name=NAMES, first=st.integers(-1, STEPS), count=st.integers(1, STEPS))
    def authorise_steps(self, name: str, first: int, count: int) -> None:
        self.both("authorise_steps", name, first, first + count - 1)

    @rule(name=NAMES, stage=STAGES)
    def commit(self, name: str, stage: str) -> None:
        self.both("commit", name, stage)

    @rule(name=NAMES)
    def start_training(self, name: str) -> None:
        """Chance alone seldom gets this far."""
        self.both("reserve", small_plan(name, 6.0, "all", True))
        self.both("open_reservation", name)
        self.both("begin", name, "image_model", True)

    @rule()
    def end_and_reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.population)

    @invariant()
    def same_sums_under_the_cap(self) -> None:
        spent = self.model.spent()
        for cohort in self.ledger.cohorts():
            assert (
                cohort.spent == float(spent[cohort.name]) and spent[cohort.name] <= self.model.cap
            )

    @invariant()
    def same_states(self) -> None:
        told = {name: release.status for name, release in self.ledger.releases().items()}
        assert told == self.model.status


LedgerAgainstModel.TestCase.settings = settings(
    max_examples=10,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_a_stored_ledger_is_the_model_s_equal = LedgerAgainstModel.TestCase


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
    assert not audit_sequences(sequences=40).holds
