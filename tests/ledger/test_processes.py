"""Processes that are killed between any two lines: what was spent is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from dagster_project import privacy
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from tests.ledger.toys import SHA, executed, plan, population_file, training

COST = 0.125


def fixed_price() -> None:
    """Every plan costs COST: kills are tested here, not prices."""
    priced = SimpleNamespace(gdp_cost=lambda events, *, leak: COST)
    sys.modules["dagster_project.privacy.accounting"] = priced  # type: ignore[assignment]
    privacy.accounting = priced  # type: ignore[attr-defined]


def live(path: str, log: int, stop: int) -> None:
    """Lives a release and kills itself at the `stop`-th boundary.

    The log holds what happened to private data; it is written after the ledger has allowed it.
    """
    count = 0

    def boundary(saw: str = "") -> None:
        nonlocal count
        if saw:
            os.write(log, f"{saw}\n".encode())
        if count == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    from dagster_project.ledger import store

    real = store.Transaction.append

    def append(self, entry) -> None:
        boundary()  # nothing written yet
        real(self, entry)
        boundary()  # written, not yet durable

    store.Transaction.append = append  # type: ignore[method-assign]
    toy = Population.load(path)
    a_plan = plan("first", *plan().mechanisms, training(steps=2, replay_steps=1))
    ledger = Ledger.open(toy)
    boundary()
    ledger.reserve(a_plan, approved_by="x", schema_public=False)
    boundary()
    ledger.open_reservation("first")
    boundary("read")
    ledger.begin("first", "table_model", executed(a_plan, "table_model"))
    boundary("table_model")
    ledger.commit("first", "table_model", {"model": SHA})
    boundary()
    ledger.begin("first", "image_model", executed(a_plan, "image_model"))
    for step in range(2):
        ledger.authorise_steps("first", "image_model", step, step)
        boundary("step")
    ledger.commit("first", "image_model", {"weights": SHA})
    boundary("end")


def kill_everywhere(folder: str) -> None:
    """In a process of its own: forks one life for each boundary."""
    import_module("sqlalchemy.dialects.sqlite")  # once here, rather than in every fork
    import_module("yaml")
    fixed_price()
    stop = 0
    while True:
        place = Path(folder) / str(stop)
        path = str(population_file(place))
        log = os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        child = os.fork()
        if child == 0:
            live(path, log, stop)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.close(log)
        if not os.WIFSIGNALED(status):
            print(stop if status == 0 else -1)
            return
        stop += 1


def kill(folder: Path) -> list[Path]:
    """One folder for each boundary at which a life was ended by kill -9."""
    script = f"from tests.ledger.test_processes import *; kill_everywhere({str(folder)!r})"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=root, capture_output=True, text=True
    )
    points = int(done.stdout or -1)
    assert points > 20, done.stderr
    return [folder / str(number) for number in range(points)]


def test_killed_at_any_boundary_nothing_is_under_counted(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for folder in kill(tmp_path):
        saw = Counter((folder / "log").read_text().split())
        seen |= saw
        ledger = Ledger.open(Population.load(folder / "population.yaml"))
        ledger.verify()
        release = ledger.releases().get("first")
        if release is None:
            assert not saw
            continue
        assert ledger.cohorts()[0].spent > 0
        assert release.opened or not saw
        assert release.stages["table_model"].starts >= saw["table_model"]
        assert release.stages["image_model"].steps >= saw["step"]
        ledger.close()
    assert set(seen) == {"read", "table_model", "step"} | {"end"} and seen["step"] == 2
