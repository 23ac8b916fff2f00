"""Program that lives a small population's life, which the crash audit traces and kills.

It writes to a folder a ledger, outputs, and `seen`, with one line for each thing that an outsider
could know of private data or was promised. It needs no records, and random bytes replace the noise.
Its stages run through the code that every release uses. Each mutant does one thing wrong, to show
that the audit would notice.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dagster_project import privacy
from dagster_project.audits import plans
from dagster_project.ledger import Ledger
from dagster_project.ledger.opening import FIRST_COHORT
from dagster_project.ledger.outputs import run_once
from dagster_project.ledger.population import Population
from dagster_project.ledger.state import HELD_OUT
from dagster_project.ledger.store import Store
from dagster_project.privacy.plan import Plan

MUTANTS = ("record_late", "admit_late", "normal_sync")
STEPS, INTERVAL = 8, 2
OUTPUTS = {"table_model": "table_model/table.npz", "image_model": "weights.safetensors"}
PARENTS: dict[str, tuple[str, ...]] = {"table_model": (), "image_model": ("table_model",)}
COST = 0.125

POPULATION = """\
population: audit
unit: person
relation: add_remove
lifetime_epsilon: 10.0
target_delta: 1.0e-6
n_public: 20000
anchor: null
"""


def price_at_a_constant(cost: float = COST) -> None:
    """Make every plan of this process cost the same, since prices are not audited here."""
    priced = SimpleNamespace(gdp_cost=lambda events, *, leak: cost)
    sys.modules["dagster_project.privacy.accounting"] = priced  # type: ignore[assignment]
    privacy.accounting = priced  # type: ignore


def plan(release_id: str) -> Plan:
    """Return a small plan with one stage of each kind."""
    steps = plans.training(sample_rate=1.0, steps=STEPS, replay_steps=INTERVAL)
    return plans.plan(release_id, plans.table(8.0), steps)


def cohorts(number: int) -> dict[str, list[str]]:
    """Return the people of release `number`, by the cohort in which they were first seen."""
    names = [FIRST_COHORT, *(f"cohort-{later}" for later in range(1, number + 1))]
    people = {name: [f"{name}-{person}" for person in range(3)] for name in names}
    return people | {HELD_OUT: [f"aside-{earlier}" for earlier in range(number + 1)]}


def place(folder: Path, release_id: str) -> tuple[Path, Path]:
    """Return the folder of a release's outputs and that of the records of its finished runs."""
    return folder / "models" / release_id, folder / "private" / release_id / "finished"


@dataclass(frozen=True, kw_only=True)
class _Life:
    """The stages of a life, and what an outsider sees of it.

    Attributes:
        seen: Descriptor of the file `seen`.
    """

    folder: Path
    mutant: str
    seen: int

    def see(self, *lines: Sequence[str]) -> None:
        os.write(self.seen, "".join(" ".join(words) + "\n" for words in lines).encode())

    def once(self, ledger: Ledger, a_plan: Plan, stage: str, run: Callable[[], None]) -> None:
        root, records = place(self.folder, a_plan.release_id)
        run_once(
            ledger,
            a_plan.release_id,
            stage,
            run,
            executed=_declared(a_plan, stage),
            files=(OUTPUTS[stage],),
            parents=PARENTS[stage],
            root=root,
            records=records,
        )
        self.see(("committed", a_plan.release_id, stage))

    def draw(self, release_id: str) -> None:
        if self.mutant != "record_late":
            self.see(("drew", release_id))
        self._write(release_id, "table_model")

    def step(self, ledger: Ledger, release_id: str, *starts: int) -> None:
        for first in starts:
            ledger.authorise_steps(release_id, "image_model", first, first + INTERVAL - 1)
            self.see(("stepped", release_id))

    def train(self, ledger: Ledger, release_id: str) -> None:
        self.step(ledger, release_id, 2, 4, 6)  # the interval from step 2 was lost and is replayed
        self._write(release_id, "image_model")

    def _write(self, release_id: str, stage: str) -> None:
        output, content = place(self.folder, release_id)[0] / OUTPUTS[stage], os.urandom(64)
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("wb", buffering=0) as stream:  # in two calls, to crash between them
            stream.write(content[:32])
            stream.write(content[32:])
        self.see(("made", release_id, stage, hashlib.sha256(content).hexdigest()))


def _declared(a_plan: Plan, stage: str) -> dict[str, dict[str, Any]]:
    return {m.name: dict(m.declared) for m in a_plan.mechanisms if m.stage == stage}


def live(folder: Path, *, releases: int = 3, mutant: str = "") -> None:
    """Reserve, open, run, resume, commit and anchor some releases, and void one.

    Args:
        folder: Folder with a population.yaml that has the text POPULATION.
    """
    if mutant == "normal_sync":
        Store.synchronous = "NORMAL"
    seen = os.open(folder / "seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    life = _Life(folder=folder, mutant=mutant, seen=seen)
    population = Population.load(folder / "population.yaml")
    ledger = Ledger.open(population)
    for number in range(releases):
        name = f"release-{number}"
        if number:
            ledger.add_cohort(f"cohort-{number}", n_public=100, approved_by="audit")
        a_plan = plan(name)
        ledger.reserve(a_plan, approved_by="audit", schema_public=False)
        life.see(("reserved", name))
        ledger.open_reservation(name)
        life.see(("read", name))
        people = cohorts(number)  # everybody from before, and some for the first time
        told = [("admitted", name, cohort, *some) for cohort, some in people.items()]
        if mutant == "admit_late":
            life.see(*told)
        everybody = [person for some in people.values() for person in some]
        ledger.admit(name, everybody, held_out=people[HELD_OUT])
        if mutant != "admit_late":
            life.see(*told)
        if mutant == "record_late":
            life.see(("drew", name))
        life.once(ledger, a_plan, "table_model", partial(life.draw, name))
        population = population.write_anchor(ledger.anchor())
        ledger.begin(name, "image_model", _declared(a_plan, "image_model"))
        life.step(ledger, name, 0, 2)
        ledger.close()  # the process ends, and another resumes
        ledger = Ledger.open(population)
        life.once(ledger, a_plan, "image_model", partial(life.train, ledger, name))
    ledger.reserve(plan("unwanted"), approved_by="audit", schema_public=False)
    ledger.void("unwanted")
    ledger.close()
    os.close(seen)


if __name__ == "__main__":
    price_at_a_constant()
    live(Path(sys.argv[1]), releases=int(sys.argv[2]), mutant=sys.argv[3])
