"""Random sequences of operations: does the ledger ever answer otherwise than a plain model?

The model is written apart from the ledger's own rules (`ledger.state`), as a few dictionaries, and
says of every operation whether it is lawful and what each cohort has then spent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from dagster_project.ledger import Entry, Head, Ledger, LedgerError
from dagster_project.ledger.journal import Journal
from dagster_project.privacy import accounting
from dagster_project.privacy.events import Gaussian, PoissonSampledGaussian
from dagster_project.privacy.plan import Plan, PlannedMechanism

NAMES = ("a", "b", "c")
STAGES = ("table_model", "image_model")
SIGMAS = (1.2, 1.6, 6.0)
COHORTS = ("founding", "newcomers")
STEPS, REPLAYS = 4, 2
_CAP, _LEAK = 0.92, 5e-8


def small_plan(name: str, sigma: float, cohort: str, trains: bool) -> Plan:
    """A plan of a table model on one cohort or all, and of a few training steps on all."""
    mechanisms = [
        PlannedMechanism(
            name="table_model",
            stage="table_model",
            event=Gaussian(noise_multiplier=sigma),
            declared={"noise_multiplier": sigma},
            cohort=cohort,
        )
    ]
    if trains:
        event = PoissonSampledGaussian(
            noise_multiplier=8.0, sample_rate=0.01, count=STEPS + REPLAYS
        )
        declared = {"noise_multiplier": 8.0, "steps": STEPS, "replay_steps": REPLAYS}
        mechanisms.append(
            PlannedMechanism(
                name="image_model", stage="image_model", event=event, declared=declared
            )
        )
    return Plan(
        release_id=name,
        population="audit",
        data_version="audit",
        schema_hash="audit",
        code_version="audit",
        target_epsilon=9.0,
        target_delta=1e-6,
        n_public=20000,
        discretization=1e-4,
        mechanisms=tuple(mechanisms),
        composed_epsilon=9.0,
        recipe={},
    )


def executed(plan: Plan, stage: str, faithful: bool = True) -> dict[str, Any]:
    """What a run of a stage reports, truthfully or not."""
    run = {m.name: dict(m.declared) for m in plan.mechanisms if m.stage == stage}
    return run if faithful else {key: item | {"more": 1} for key, item in run.items()}


@dataclass
class _Stage:
    starts: int = 0
    steps: int = 0
    next: int = 0
    done: bool = False


@dataclass
class Model:
    """What a ledger of two cohorts ought to know. Each method answers whether the ledger must allow
    the operation of its name, and if so takes it in."""

    cap: Fraction = Fraction(_CAP)
    leak: float = _LEAK
    plans: dict[str, Plan] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    stages: dict[tuple[str, str], _Stage] = field(default_factory=dict)

    def costs(self, plan: Plan) -> dict[str, Fraction]:
        """Cost by cohort."""
        named = {item.cohort for item in plan.mechanisms}
        return {
            cohort: Fraction(
                accounting.gdp_cost(
                    [m.event for m in plan.mechanisms if m.cohort in ("all", cohort)],
                    leak=self.leak,
                )
            )
            for cohort in (COHORTS if "all" in named else sorted(named))
        }

    def spent(self) -> dict[str, Fraction]:
        """Spent by cohort: every plan that was not given back, in full."""
        sums = dict.fromkeys(COHORTS, Fraction(0))
        for name, plan in self.plans.items():
            for cohort, cost in self.costs(plan).items() if self.status[name] != "VOID" else ():
                sums[cohort] += cost
        return sums

    def reserve(self, plan: Plan) -> bool:
        name = plan.release_id
        if name in self.plans:
            return self.plans[name] == plan and self.status[name] != "VOID"
        spent = self.spent()
        if any(spent[cohort] + cost > self.cap for cohort, cost in self.costs(plan).items()):
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

    def begin(self, name: str, stage: str, faithful: bool) -> bool:
        known = self._running(name, stage)
        if known is None or not faithful or (known.starts and stage != "image_model"):
            return False
        known.starts += 1
        return True

    def authorise_steps(self, name: str, first: int, last: int) -> bool:
        known = self._running(name, "image_model")
        if known is None or not known.starts or not 0 <= first <= min(last, known.next):
            return False
        if last >= STEPS or known.steps + last - first + 1 > STEPS + REPLAYS:
            return False
        known.steps += last - first + 1
        known.next = max(known.next, last + 1)
        return True

    def commit(self, name: str, stage: str) -> bool:
        known = self.stages.get((name, stage))
        if known is None or self.status[name] not in ("OPENED", "COMMITTED"):
            return False
        if not known.done and (not known.starts or known.next != STEPS * (stage == STAGES[1])):
            return False
        known.done = True
        if all(item.done for key, item in self.stages.items() if key[0] == name):
            self.status[name] = "COMMITTED"
        return True


class MemoryStore:
    """A store for one process that forgets: for audits of the rules, not of durability."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, str, str]] = []

    def rows(self, since: int = 1) -> list[tuple[int, str, str]]:
        return self._rows[since - 1 :]

    def append(self, entry: Entry) -> None:
        self._rows.append((entry.seq, entry.text, entry.hash))

    @contextmanager
    def reading(self) -> Iterator[MemoryStore]:
        yield self

    writing = reading


def memory_ledger() -> Ledger:
    """An empty ledger of two cohorts, in memory."""
    store = MemoryStore()
    fixed = {"name": "audit", "cap": _CAP, "leak": _LEAK, "lifetime_epsilon": 5.0}
    fixed |= {"target_delta": 1e-6, "n_public": 20000}
    store.append(Entry.after(Head(), "CREATED", fixed))
    ledger = Ledger(Journal(store))  # type: ignore[arg-type]
    for cohort in COHORTS:
        ledger.add_cohort(cohort, n_public=20000, approved_by="audit")
    return ledger


@dataclass
class SequenceReport:
    """What random sequences showed.

    Attributes:
        allowed: operations that both allowed, of all `operations`.
        divergences: operations the ledger answered otherwise than the model.
        overspends: times a cohort had passed its cap.
    """

    sequences: int = 0
    operations: int = 0
    allowed: int = 0
    divergences: int = 0
    overspends: int = 0

    @property
    def holds(self) -> bool:
        """Whether the ledger was the model's equal throughout."""
        return self.allowed > 0 and not self.divergences and not self.overspends

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return asdict(self) | {"holds": self.holds}


def audit_sequences(*, sequences: int = 10_000, length: int = 30, seed: int = 0) -> SequenceReport:
    """Performs random operations on ledgers in memory, each also on a model."""
    rng = random.Random(seed)
    report = SequenceReport()
    for _ in range(sequences):
        ledger, model = memory_ledger(), Model()
        report.sequences += 1
        for _ in range(length):
            for kind, arguments in _operations(rng):
                _compare(ledger, model, kind, arguments, report)
        spent = model.spent()
        for cohort in ledger.cohorts():
            report.divergences += cohort.spent != float(spent[cohort.name])
            report.overspends += cohort.spent > float(model.cap)
        told = {name: release.status for name, release in ledger.releases().items()}
        report.divergences += told != model.status
    return report


def _operations(rng: random.Random) -> list[tuple[str, tuple[Any, ...]]]:
    name, stage = rng.choice(NAMES), rng.choice(STAGES)
    kinds = "reserve reserve void open begin begin steps steps commit train finish"
    kind = rng.choice(kinds.split())
    plan = small_plan(name, rng.choice(SIGMAS), rng.choice((*COHORTS, "all")), rng.random() < 0.5)
    first = rng.randint(-1, STEPS)
    choices: dict[str, list[tuple[str, tuple[Any, ...]]]] = {
        "reserve": [("reserve", (plan,))],
        "void": [("void", (name,))],
        "open": [("open_reservation", (name,))],
        "begin": [("begin", (name, stage, rng.random() < 0.8))],
        "steps": [("authorise_steps", (name, first, first + rng.randint(0, STEPS - 1)))],
        "commit": [("commit", (name, stage))],
        # Chance alone seldom gets as far as training.
        "train": [
            ("reserve", (small_plan(name, 6.0, "all", True),)),
            ("open_reservation", (name,)),
            ("begin", (name, "image_model", True)),
            ("authorise_steps", (name, 0, rng.randint(0, STEPS - 1))),
        ],
        "finish": [
            ("authorise_steps", (name, 0, STEPS - 1)),
            ("commit", (name, "image_model")),
            ("begin", (name, "image_model", True)),
        ],
    }
    return choices[kind]


def perform(ledger: Ledger, model: Model, kind: str, arguments: tuple[Any, ...]) -> None:
    """The ledger's part of an operation. Raises LedgerError where the ledger refuses."""
    if kind == "reserve":
        ledger.reserve(arguments[0], approved_by="audit", schema_public=False)
    elif kind == "begin":
        name, stage, faithful = arguments
        run = executed(model.plans[name], stage, faithful) if name in model.plans else {"x": {}}
        ledger.begin(name, stage, run)
    elif kind == "authorise_steps":
        ledger.authorise_steps(arguments[0], "image_model", *arguments[1:])
    elif kind == "commit":
        ledger.commit(arguments[0], arguments[1], {"model": "ab" * 32})
    else:
        getattr(ledger, kind)(*arguments)


def _compare(
    ledger: Ledger, model: Model, kind: str, arguments: tuple[Any, ...], report: SequenceReport
) -> None:
    report.operations += 1
    expected = getattr(model, kind)(*arguments)
    try:
        perform(ledger, model, kind, arguments)
        answer = True
    except LedgerError:
        answer = False
    report.allowed += answer and expected
    report.divergences += answer != expected
