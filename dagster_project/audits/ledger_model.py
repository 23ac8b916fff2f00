"""Model of a ledger's answers, with a few dictionaries, written independently of `ledger.state`."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

from dagster_project.audits import plans
from dagster_project.ledger import gdp_filter
from dagster_project.privacy import accounting
from dagster_project.privacy.plan import Plan

STAGES = ("table_model", "image_model")
COHORTS = ("founding", "newcomers")
STEPS, REPLAYS = 4, 2
EPSILON, DELTA = 5.0, 1e-6
CAP = gdp_filter.cap(EPSILON, target_delta=DELTA)
LEAK = gdp_filter.leak(EPSILON, target_delta=DELTA)


@cache
def small_plan(name: str, sigma: float, cohort: str, trains: bool) -> Plan:
    """Return a plan of a table model on one cohort or all, and optional training steps on all."""
    steps = [plans.training(sample_rate=0.01, steps=STEPS, replay_steps=REPLAYS)] * trains
    return plans.plan(name, plans.table(sigma, cohort=cohort), *steps)


@dataclass
class _Stage:
    starts: int = 0
    steps: int = 0
    next: int = 0
    done: bool = False


@dataclass
class Model:
    """Model of a ledger with two cohorts.

    It has the operations of the ledger. Each returns whether the ledger must allow it, and if so
    updates the model.
    """

    plans: dict[str, Plan] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    stages: dict[tuple[str, str], _Stage] = field(default_factory=dict)

    def costs(self, plan: Plan) -> dict[str, Fraction]:
        """Return the cost by cohort."""
        named = {item.cohort for item in plan.mechanisms}
        return {
            cohort: Fraction(
                accounting.gdp_cost(
                    [m.event for m in plan.mechanisms if m.cohort in ("all", cohort)],
                    leak=LEAK,
                )
            )
            for cohort in (COHORTS if "all" in named else sorted(named))
        }

    def spent(self) -> dict[str, Fraction]:
        """Return what each cohort has spent: every plan that was not voided, in full."""
        sums = dict.fromkeys(COHORTS, Fraction(0))
        for name, plan in self.plans.items():
            for cohort, cost in self.costs(plan).items() if self.status[name] != "VOID" else ():
                sums[cohort] += cost
        return sums

    def reserve(self, plan: Plan, *, approved_by: str, schema_public: bool) -> bool:
        name = plan.release_id
        if name in self.plans:
            return self.plans[name] == plan and self.status[name] != "VOID"
        spent = self.spent()
        if any(spent[cohort] + cost > CAP for cohort, cost in self.costs(plan).items()):
            return False
        self.plans[name], self.status[name] = plan, "RESERVED"
        self.stages |= {(name, m.stage): _Stage() for m in plan.mechanisms}
        return True

    def void(self, name: str) -> bool:
        allowed = self.status.get(name) == "RESERVED"
        if allowed:
            self.status[name] = "VOID"
        return allowed

    def open_reservation(self, name: str) -> bool:
        if self.status.get(name) == "RESERVED":
            self.status[name] = "OPENED"
        return self.status.get(name) in ("OPENED", "COMMITTED")

    def _running(self, name: str, stage: str) -> _Stage | None:
        known = self.stages.get((name, stage))
        usable = self.status.get(name) == "OPENED" and known is not None and not known.done
        return known if usable else None

    def executed(self, name: str, stage: str) -> dict[str, Any]:
        """Return what a faithful run of a stage reports."""
        mechanisms = self.plans[name].mechanisms if name in self.plans else ()
        return {m.name: dict(m.declared) for m in mechanisms if m.stage == stage}

    def begin(self, name: str, stage: str, executed: dict[str, Any]) -> bool:
        known = self._running(name, stage)
        if known is None or (known.starts and stage != STAGES[1]):
            return False
        if executed != self.executed(name, stage):
            return False
        known.starts += 1
        return True

    def authorise_steps(self, name: str, stage: str, first: int, last: int) -> bool:
        known = self._running(name, stage)
        if known is None or not known.starts or not 0 <= first <= min(last, known.next):
            return False
        if last >= STEPS or known.steps + last - first + 1 > STEPS + REPLAYS:
            return False
        known.steps += last - first + 1
        known.next = max(known.next, last + 1)
        return True

    def commit(self, name: str, stage: str, files: dict[str, str]) -> bool:
        known = self.stages.get((name, stage))
        if known is None or self.status[name] not in ("OPENED", "COMMITTED"):
            return False
        if not known.done and (not known.starts or known.next != STEPS * (stage == STAGES[1])):
            return False
        known.done = True
        if all(item.done for key, item in self.stages.items() if key[0] == name):
            self.status[name] = "COMMITTED"
        return True
