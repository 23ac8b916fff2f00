"""Random sequences of operations against a plain model: same answers, same sums, no overspend."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dagster_project.privacy import accounting
from dagster_project.privacy.ledger import Ledger, LedgerError
from tests.privacy.ledger_toys import SHA, executed, gaussian, plan, population, training

NAMES = st.sampled_from(["a", "b", "c"])
STAGES = st.sampled_from(["table_model", "image_model"])
SIGMAS = st.sampled_from([1.2, 1.6, 6.0])
BLOCKS = st.sampled_from(["all", "founding", "newcomers"])
STEPS, REPLAYS = 4, 2


class LedgerAgainstModel(RuleBasedStateMachine):
    """The model is a dictionary; whatever it refuses, the ledger must refuse, and the reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.population = population(Path(self.folder.name))
        self.ledger = Ledger.open(self.population)
        self.ledger.add_block("newcomers", n_public=100, approved_by="steward")
        self.cap = Fraction(self.population.rdp_cap)
        self.plans: dict[str, Any] = {}
        self.status: dict[str, str] = {}
        self.stages: dict[tuple[str, str], dict[str, Any]] = {}

    def teardown(self) -> None:
        assert self.ledger.verify() == Ledger.open(self.population).anchor()
        self.ledger.close()
        self.folder.cleanup()

    def expect(self, allowed: bool, call: Callable[[], object]) -> None:
        if allowed:
            call()
        else:
            with pytest.raises(LedgerError):
                call()

    def spent(self) -> dict[str, Fraction]:
        sums = {"founding": Fraction(0), "newcomers": Fraction(0)}
        for name, a_plan in self.plans.items():
            if self.status[name] == "VOID":
                continue
            for block, cost in self.costs(a_plan).items():
                sums[block] += cost
        return sums

    def costs(self, a_plan: Any) -> dict[str, Fraction]:
        blocks = {item.block for item in a_plan.mechanisms}
        touched = ["founding", "newcomers"] if "all" in blocks else sorted(blocks)
        return {
            block: Fraction(
                accounting.rdp(
                    [item.event for item in a_plan.mechanisms if item.block in ("all", block)],
                    order=self.population.order,
                )
            )
            for block in touched
        }

    @rule(name=NAMES, sigma=SIGMAS, block=BLOCKS, trains=st.booleans())
    def reserve(self, name: str, sigma: float, block: str, trains: bool) -> None:
        extra = [training(steps=STEPS, replay_steps=REPLAYS)] if trains else []
        a_plan = plan(name, gaussian(sigma, block=block), *extra)
        if name in self.plans:
            allowed = self.plans[name] == a_plan and self.status[name] != "VOID"
        else:
            spent = self.spent()
            allowed = all(spent[b] + c <= self.cap for b, c in self.costs(a_plan).items())
        self.expect(
            allowed, lambda: self.ledger.reserve(a_plan, approved_by="x", schema_public=False)
        )
        if allowed and name not in self.plans:
            self.plans[name], self.status[name] = a_plan, "RESERVED"
            for item in a_plan.mechanisms:
                self.stages[name, item.stage] = {"starts": 0, "steps": 0, "next": 0, "done": False}

    @rule(name=NAMES)
    def void(self, name: str) -> None:
        allowed = self.status.get(name) == "RESERVED"
        self.expect(allowed, lambda: self.ledger.void(name))
        if allowed:
            self.status[name] = "VOID"

    @rule(name=NAMES)
    def open_reservation(self, name: str) -> None:
        allowed = self.status.get(name) in ("RESERVED", "OPENED", "COMMITTED")
        self.expect(allowed, lambda: self.ledger.open_reservation(name))
        if self.status.get(name) == "RESERVED":
            self.status[name] = "OPENED"

    def running(self, name: str, stage: str) -> dict[str, Any] | None:
        known = self.stages.get((name, stage))
        usable = self.status.get(name) == "OPENED" and known is not None and not known["done"]
        return known if usable else None

    @rule(name=NAMES, stage=STAGES, faithful=st.sampled_from([True, True, True, False]))
    def begin(self, name: str, stage: str, faithful: bool) -> None:
        known = self.running(name, stage)
        resumable = stage == "image_model"
        allowed = known is not None and faithful and (resumable or not known["starts"])
        run = executed(self.plans[name], stage) if name in self.plans else {"x": {}}
        if not faithful:
            run = {key: value | {"noise_multiplier": 0.1} for key, value in run.items()}
        self.expect(allowed, lambda: self.ledger.begin(name, stage, run))
        if allowed and known is not None:
            known["starts"] += 1

    @rule(name=NAMES, first=st.integers(-1, STEPS), count=st.integers(1, STEPS))
    def authorise(self, name: str, first: int, count: int) -> None:
        known, last = self.running(name, "image_model"), first + count - 1
        allowed = (
            known is not None
            and known["starts"] > 0
            and 0 <= first <= known["next"]
            and last < STEPS
            and known["steps"] + count <= STEPS + REPLAYS
        )
        self.expect(allowed, lambda: self.ledger.authorise_steps(name, "image_model", first, last))
        if allowed and known is not None:
            known["steps"] += count
            known["next"] = max(known["next"], last + 1)

    @rule(name=NAMES)
    def start_training(self, name: str) -> None:
        """Chance alone seldom gets this far."""
        self.reserve(name, 6.0, "all", True)
        self.open_reservation(name)
        self.begin(name, "image_model", True)

    @rule(name=NAMES, stage=STAGES)
    def commit(self, name: str, stage: str) -> None:
        known = self.stages.get((name, stage))
        open_now = self.status.get(name) in ("OPENED", "COMMITTED") and known is not None
        whole = stage != "image_model" or (known is not None and known["next"] == STEPS)
        allowed = open_now and (known["done"] or (known["starts"] > 0 and whole))
        self.expect(allowed, lambda: self.ledger.commit(name, stage, {"model": SHA}))
        if allowed and known is not None:
            known["done"] = True
            if all(item["done"] for key, item in self.stages.items() if key[0] == name):
                self.status[name] = "COMMITTED"

    @rule()
    def crash_and_reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.population)

    @invariant()
    def same_sums_under_the_cap(self) -> None:
        spent = self.spent()
        for block in self.ledger.blocks():
            assert block.spent == float(spent[block.name]) and spent[block.name] <= self.cap

    @invariant()
    def same_states(self) -> None:
        told = {name: release.status for name, release in self.ledger.releases().items()}
        assert told == self.status


LedgerAgainstModel.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_random_sequences_match_the_model = LedgerAgainstModel.TestCase
