"""Audit of many processes that reserve one budget at once: is exactly what fits granted?

Every plan costs the same here, so the number that fits is known beforehand. The mutant checks
whether a plan fits and records it in a second step; the audit must see it over-grant.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dagster_project.audits.lives import POPULATION, plan, price_at_a_constant
from dagster_project.ledger import BudgetExceeded, Ledger
from dagster_project.ledger.population import Population
from dagster_project.ledger.state import State

MUTANTS = ("check_then_act",)


@dataclass(frozen=True, kw_only=True)
class CrowdReport:
    """Reservations granted to a crowd.

    Attributes:
        asked: Reservations requested by all processes together.
        fits: Reservations that fit under the cap.
        granted: Reservations that were reported to a process as granted.
        recorded: Reservations in the ledger afterwards.
        per_second: Answers, granted or refused, of all processes together.
    """

    mutant: str
    processes: int
    asked: int
    fits: int
    granted: int
    recorded: int
    per_second: float

    @property
    def holds(self) -> bool:
        """Whether exactly what fits was granted, and exactly that is recorded."""
        return self.granted == self.recorded == min(self.fits, self.asked)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return asdict(self) | {"holds": self.holds}


def audit_crowd(
    folder: Path, *, processes: int = 8, each: int = 1000, ledger: str = "", mutant: str = ""
) -> CrowdReport:
    """Let processes reserve `each` plans at once under a cap that fits two in three of them.

    Args:
        folder: An empty folder.
        ledger: URL of an empty database; the default is a file in the folder.
    """
    path = folder / "population.yaml"
    path.write_text(POPULATION + (f"ledger: {ledger}\n" if ledger else ""))
    population = Population.load(path)
    fits = processes * each * 2 // 3
    cost = population.cap / (fits + 0.5)
    Ledger.open(population).close()
    context = multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(processes + 1), context.SimpleQueue()
    crowd = [
        context.Process(target=_ask, args=(path, number, each, cost, mutant, gate, answers))
        for number in range(processes)
    ]
    for process in crowd:
        process.start()
    gate.wait()
    start = time.perf_counter()
    granted = sum(answers.get() for _ in crowd)
    seconds = time.perf_counter() - start
    for process in crowd:
        process.join()
    recorded = granted if mutant else len(Ledger.open(population).releases())
    return CrowdReport(
        mutant=mutant,
        processes=processes,
        asked=processes * each,
        fits=fits,
        granted=granted,
        recorded=recorded,
        per_second=processes * each / seconds,
    )


def _ask(
    path: Path, number: int, each: int, cost: float, mutant: str, gate: Any, answers: Any
) -> None:
    price_at_a_constant(cost)
    ledger = Ledger.open(Population.load(path))
    if mutant == "check_then_act":
        State._require_room = lambda *_: None  # type: ignore[method-assign]
    pattern = plan("pattern")
    gate.wait()
    granted = 0
    for index in range(each):
        wanted = replace(pattern, release_id=f"release-{number}-{index}")
        if mutant == "check_then_act":
            if not ledger.price(wanted).fits:
                continue
            time.sleep(0.002)
        try:
            ledger.reserve(wanted, approved_by="audit", schema_public=False)
            granted += 1
        except BudgetExceeded:
            continue
    answers.put(granted)
