"""A population's life in small: what the crash audit traces and kills.

Run as a program with a folder; it writes a ledger, and `seen`: one line for each
thing that an outsider could know of private data, or was promised. Noise and records are not
needed for that. Its mutants do one thing wrong, so that the audit can show that it would notice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from dagster_project import privacy
from dagster_project.privacy.events import Gaussian, PoissonSampledGaussian
from dagster_project.privacy.ledger import Ledger
from dagster_project.privacy.ledger.opening import FIRST_BLOCK
from dagster_project.privacy.ledger.state import HELD_OUT
from dagster_project.privacy.ledger.store import Store
from dagster_project.privacy.plan import Mechanism, Plan
from dagster_project.privacy.population import Population

MUTANTS = ("record_late", "admit_late", "normal_sync")
STEPS, INTERVAL = 8, 2
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
    """Every plan of this process costs the same: crashes and crowds are audited, not prices."""
    priced = SimpleNamespace(rdp=lambda events, *, order: cost)
    sys.modules["dagster_project.privacy.accounting"] = priced  # type: ignore[assignment]
    privacy.accounting = priced  # type: ignore


def plan(release_id: str) -> Plan:
    """A small plan with one stage of each kind."""
    table = Mechanism(
        name="table_model",
        stage="table_model",
        event=Gaussian(noise_multiplier=8.0),
        declared={"noise_multiplier": 8.0},
    )
    image = Mechanism(
        name="image_model",
        stage="image_model",
        event=PoissonSampledGaussian(noise_multiplier=8.0, sample_rate=1.0, count=STEPS + INTERVAL),
        declared={"noise_multiplier": 8.0, "steps": STEPS, "replay_steps": INTERVAL},
    )
    return Plan(
        release_id=release_id,
        population="audit",
        data_version="audit",
        schema_hash="audit",
        code_version="audit",
        target_epsilon=3.0,
        target_delta=1e-6,
        n_public=20000,
        discretization=1e-4,
        mechanisms=(table, image),
        composed_epsilon=3.0,
        recipe={},
    )


def cohorts(number: int) -> dict[str, list[str]]:
    """Those who come to release `number`, by the block in which they were first seen."""
    names = [FIRST_BLOCK, *(f"cohort-{later}" for later in range(1, number + 1))]
    people = {name: [f"{name}-{person}" for person in range(3)] for name in names}
    return people | {HELD_OUT: [f"aside-{earlier}" for earlier in range(number + 1)]}


def live(folder: Path, *, releases: int = 3, mutant: str = "") -> None:
    """Reserves, opens, runs, resumes, commits and anchors some releases, and gives one back.

    Args:
        folder: holds population.yaml, with the text POPULATION.
    """
    if mutant == "normal_sync":
        Store.synchronous = "NORMAL"
    seen = os.open(folder / "seen", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def see(*lines: Sequence[str]) -> None:
        os.write(seen, "".join(" ".join(words) + "\n" for words in lines).encode())

    population = Population.load(folder / "population.yaml")
    ledger = Ledger.open(population)
    for number in range(releases):
        name = f"release-{number}"
        if number:
            ledger.add_block(f"cohort-{number}", n_public=100, approved_by="audit")
        a_plan = plan(name)
        ledger.reserve(a_plan, approved_by="audit", schema_public=False)
        see(("reserved", name))
        ledger.open_reservation(name)
        see(("read", name))
        people = cohorts(number)  # everybody who came before, and some for the first time
        told = [("admitted", name, block, *some) for block, some in people.items()]
        if mutant == "admit_late":
            see(*told)
        everybody = [person for some in people.values() for person in some]
        ledger.admit(name, everybody, held_out=people[HELD_OUT])
        if mutant != "admit_late":
            see(*told)
        run = {m.name: dict(m.declared) for m in a_plan.mechanisms}
        if mutant == "record_late":
            see(("drew", name))
        ledger.begin(name, "table_model", {"table_model": run["table_model"]})
        if mutant != "record_late":
            see(("drew", name))
        ledger.commit(name, "table_model", {"table.npz": "0" * 64})
        see(("committed", name))
        population = population.write_anchor(ledger.anchor())
        ledger.close()  # the process ends, and another resumes
        ledger = Ledger.open(population)
        ledger.begin(name, "image_model", {"image_model": run["image_model"]})
        for first in (0, 2, 2, 4, 6):  # one interval is lost and replayed
            ledger.authorise_steps(name, "image_model", first, first + INTERVAL - 1)
            see(("stepped", name))
        ledger.commit(name, "image_model", {"weights.safetensors": "1" * 64})
    ledger.reserve(plan("unwanted"), approved_by="audit", schema_public=False)
    ledger.void("unwanted")
    ledger.close()
    os.close(seen)


if __name__ == "__main__":
    price_at_a_constant()
    live(Path(sys.argv[1]), releases=int(sys.argv[2]), mutant=sys.argv[3])
