"""Audit of random sequences of operations: does the ledger ever differ from a plain model?

A sequence that shows a difference is shortened to the necessary moves. The sequences do not come
from Hypothesis, because its state machine takes twice as long for each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Any

from dagster_project.audits.ledger_model import (
    CAP,
    COHORTS,
    DELTA,
    EPSILON,
    LEAK,
    STAGES,
    STEPS,
    Model,
    small_plan,
)
from dagster_project.ledger import Entry, Head, Ledger, LedgerError
from dagster_project.ledger.journal import Journal
from dagster_project.ledger.state import FORMAT

NAMES = ("a", "b", "c")
SIGMAS = (1.2, 1.6, 6.0)

# Context manager of a function that opens a ledger of EPSILON and DELTA, empty at first and the
# same one on every call.
Place = Callable[[], AbstractContextManager[Callable[[], Ledger]]]
Move = tuple[str, tuple[Any, ...]]


class MemoryStore:
    """In-memory store for one process, for audits of the rules, not of durability."""

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

    def close(self) -> None:
        """Do nothing; there is nothing to release."""


@contextmanager
def in_memory() -> Iterator[Callable[[], Ledger]]:
    """Yield a function that opens a ledger in memory."""
    store: Any = MemoryStore()
    fixed = {"name": "audit", "cap": CAP, "leak": LEAK, "lifetime_epsilon": EPSILON}
    store.append(
        Entry.after(
            Head(), "CREATED", fixed | {"target_delta": DELTA, "n_public": 20000, "format": FORMAT}
        )
    )
    Ledger(Journal(store)).add_cohort(COHORTS[0], n_public=20000, approved_by="audit")
    yield lambda: Ledger(Journal(store))


class Divergence(Exception):
    """Raised if the ledger and the model differ."""


@dataclass
class SequenceReport:
    """Results of random sequences.

    Attributes:
        allowed: Operations that both allowed, of all `operations`.
        divergence: How the ledger's answer differed from the model's, with the moves that lead
            there; "" if it never did.
    """

    sequences: int = 0
    operations: int = 0
    allowed: int = 0
    divergence: str = ""

    @property
    def holds(self) -> bool:
        """Whether the ledger agreed with the model throughout."""
        return self.allowed > 0 and not self.divergence


class _Both:
    """A ledger and its model, which perform the same moves."""

    def __init__(self, opened: Callable[[], Ledger], report: SequenceReport) -> None:
        self.opened, self.report = opened, report
        self.ledger, self.model = opened(), Model()
        self.ledger.add_cohort(COHORTS[1], n_public=20000, approved_by="audit")

    def move(self, kind: str, arguments: tuple[Any, ...]) -> None:
        """Perform a move: an operation, or several that random moves seldom chain together."""
        match kind, arguments:
            case "reserve", _:
                plan = small_plan(*arguments)
                self.operation("reserve", plan, approved_by="audit", schema_public=False)
            case "begin", (name, stage, more):
                executed = self.model.executed(name, stage)
                run = {key: declared | more for key, declared in executed.items()}
                self.operation("begin", name, stage, run)
            case "commit", _:
                self.operation("commit", *arguments, {"model": "ab" * 32})
            case "train", (name, last):
                self.move("reserve", (name, 6.0, "all", True))
                self.move("open_reservation", (name,))
                self.move("begin", (name, STAGES[1], {}))
                self.move("authorise_steps", (name, STAGES[1], 0, last))
            case "finish", (name,):
                self.move("authorise_steps", (name, STAGES[1], 0, STEPS - 1))
                self.move("commit", (name, STAGES[1]))
                self.move("begin", (name, STAGES[1], {}))
            case "reopen", _:
                self.ledger.close()
                self.ledger = self.opened()
                self.compare()
            case _:
                self.operation(kind, *arguments)

    def operation(self, kind: str, *arguments: Any, **named: Any) -> None:
        expected = getattr(self.model, kind)(*arguments, **named)
        try:
            getattr(self.ledger, kind)(*arguments, **named)
            answer = True
        except LedgerError:
            answer = False
        self.report.operations += 1
        self.report.allowed += answer and expected
        if answer != expected:
            raise Divergence(f"{kind} is {'allowed' if answer else 'refused'}")

    def compare(self) -> None:
        """Compare sums and states, and check that no cohort has exceeded its cap."""
        spent = self.model.spent()
        for cohort in self.ledger.cohorts():
            if cohort.spent > CAP:
                raise Divergence(f"{cohort.name} has passed its cap")
            if cohort.spent != float(spent[cohort.name]):
                raise Divergence(f"{cohort.name} has spent {cohort.spent}")
        told = {name: release.status for name, release in self.ledger.releases().items()}
        if told != self.model.status:
            raise Divergence(f"the states are {told}")


def _moves() -> Iterator[Move]:
    """Yield every move, repeated so that each kind has its weight."""
    names = list(product(NAMES))
    steps = product(NAMES, range(-1, STEPS + 1), range(STEPS))
    kinds: list[tuple[int, str, Iterable[tuple[Any, ...]]]] = [
        (30, "reopen", [()]),
        (100, "void", names),
        (100, "open_reservation", names),
        (200, "reserve", product(NAMES, SIGMAS, (*COHORTS, "all"), (False, True))),
        (200, "begin", product(NAMES, STAGES, ({}, {}, {}, {}, {"more": 1}))),
        (200, "authorise_steps", ((name, STAGES[1], i, i + more) for name, i, more in steps)),
        (100, "commit", product(NAMES, STAGES)),
        (100, "train", product(NAMES, range(STEPS))),
        (100, "finish", names),
    ]
    for weight, kind, arguments in kinds:
        yield from islice(cycle([(kind, of) for of in arguments]), weight)


def _divergence(moves: Sequence[Move], place: Place, report: SequenceReport) -> str:
    """Return what differs during or after these moves, or "" if nothing does."""
    with place() as opened:
        both = _Both(opened, report)
        try:
            for move in moves:
                both.move(*move)
            both.compare()
        except Divergence as found:
            return str(found)
        finally:
            both.ledger.close()
    return ""


def audit_sequences(
    *, sequences: int = 10_000, length: int = 30, seed: int = 0, place: Place = in_memory
) -> SequenceReport:
    """Perform random moves on ledgers in a place and on a model until the two differ."""
    rng, report, every = random.Random(seed), SequenceReport(), list(_moves())
    for _ in range(sequences):
        report.sequences += 1
        moves = rng.choices(every, k=length)
        if found := _divergence(moves, place, report):
            for i in reversed(range(length)):
                shorter = moves[:i] + moves[i + 1 :]
                if again := _divergence(shorter, place, report):
                    moves, found = shorter, again
            report.divergence = f"{found}: {moves}"
            break
    return report
