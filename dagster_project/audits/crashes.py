"""Audit of crashes: does any crash make the ledger forget what was revealed of private data?

At every file-changing call of a recorded life, the files that a kill, a power cut or a torn write
would leave are opened again as by an ordinary next run. The ledger must open, verify, and know
of everything that was seen of private data up to that call; an interrupted stage must end with the
one output that it had made, or with none. Kills are also done for real.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dagster_project.audits import file_calls, resuming
from dagster_project.audits.file_calls import Call
from dagster_project.audits.lives import COST, INTERVAL, POPULATION
from dagster_project.ledger import Ledger, LedgerError
from dagster_project.ledger.members import Members
from dagster_project.ledger.opening import open_journal
from dagster_project.ledger.outputs import run_once
from dagster_project.ledger.population import Population, PopulationError

MODELS = ("kill", "power_cut", "torn")
_LIVES = "dagster_project.audits.lives"


@dataclass
class CrashReport:
    """Results of an audit of crash points.

    Attributes:
        model: kill, power_cut, torn, or killed (done for real).
        mutant: The planted fault, "" for none.
        calls: File-changing calls of the life.
        points: Examined crashes.
        saw: Of those, the ones before which something was seen or promised.
        under_counts: Points at which the ledger knew less than had been seen.
        broken: Points at which the ledger could not be opened or verified.
        lost: Points at which something that the ledger had promised was gone.
        whole: Points at which a stage's output was whole but not committed.
        recovered: Of those, the ones at which resuming committed it.
        redrawn: Points at which resuming drew noise again or committed another output.
    """

    model: str
    mutant: str = ""
    calls: int = 0
    points: int = 0
    saw: int = 0
    under_counts: int = 0
    broken: int = 0
    lost: int = 0
    whole: int = 0
    recovered: int = 0
    redrawn: int = 0

    @property
    def holds(self) -> bool:
        """Whether no crash did harm."""
        harm = self.under_counts or self.broken or self.lost or self.redrawn
        return (
            2 * self.saw > self.points and not harm
        )  # a crash before anything was seen is no evidence

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON."""
        return asdict(self) | {"holds": self.holds}


def _command(folder: Path, releases: int, mutant: str) -> list[str]:
    # Without byte code and with numpy on one thread, the trace holds only the life's own calls.
    return [sys.executable, "-B", "-m", _LIVES, str(folder), str(releases), mutant]


def _settle(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "population.yaml").write_text(POPULATION)


def record_life(folder: Path, *, releases: int = 3, mutant: str = "") -> list[Call]:
    """Trace one life in an empty folder. Raises TraceError."""
    _settle(folder)
    root = Path(__file__).parents[2]
    return file_calls.record(_command(folder, releases, mutant), folder, cwd=root)


def audit_crashes(
    calls: Sequence[Call],
    folder: Path,
    *,
    model: str,
    mutant: str = "",
    every: int = 1,
    seed: int = 0,
    resumed_by: resuming.Resume = run_once,
) -> CrashReport:
    """Examine the crash after each (or each `every`-th) call of a recorded life.

    Args:
        calls: Result of `record_life`.
        folder: Folder of that life.
        model: One of MODELS.
        seed: Seed of the torn writes.
        resumed_by: Function that resumes an interrupted stage; any but `run_once` is a fault.
    """
    coin = random.Random(seed)
    survives = {
        "kill": lambda: True,
        "power_cut": lambda: False,
        "torn": lambda: coin.random() < 0.5,
    }[model]
    report = CrashReport(model=model, mutant=mutant, calls=len(calls))
    before = file_calls.Disk(folder, {"population.yaml": POPULATION.encode()})
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        target = Path(scratch) / "after"
        for done, past in file_calls.crashes(calls, before, target, survives):
            if done % every == 0:
                seen = b"".join(c.data for c in past if c.paths[0].endswith("/seen"))
                report.saw += bool(seen)
                lines = Counter(seen.decode().splitlines())
                _examine(target, lines, report, resumed_by=resumed_by)
    return report


def audit_kills(
    calls: Sequence[Call], *, releases: int = 3, mutant: str = "", every: int = 1
) -> CrashReport:
    """Kill a life for real before each (or each `every`-th) call of a recorded one."""
    report = CrashReport(model="killed", mutant=mutant, calls=len(calls))
    for call in calls[::every]:
        name, number = call.moment
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "life"
            _settle(folder)
            inject = f"inject={name}:signal=KILL:when={number}"
            tracer = ["strace", "-o", "/dev/null", "-e", f"trace={name}", "-e", inject]
            command = [*tracer, *_command(folder, releases, mutant)]
            done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2])
            if done.returncode not in (-signal.SIGKILL, 128 + signal.SIGKILL):
                continue
            log = folder / "seen"
            seen = log.read_text().splitlines() if log.exists() else []
            report.saw += bool(seen)
            _examine(folder, Counter(seen), report)
    return report


def _examine(
    folder: Path,
    seen: Counter[str],
    report: CrashReport,
    *,
    resumed_by: resuming.Resume = run_once,
) -> None:
    """Open what a crash left, as the next run would, and compare it with what was seen."""
    report.points += 1
    try:
        population = Population.load(folder / "population.yaml")
        journal = open_journal(population, wait=60.0)
    except (LedgerError, PopulationError):
        report.broken += 1
        return
    members = Members(population.key_path)
    ledger = Ledger(journal, members)
    try:
        ledger.verify()
        releases = ledger.releases()
        spent = ledger.cohorts()[0].spent
        people = sorted({person for line in seen for person in line.split()[3:]})
        for known in releases.values():
            if people and known.opened:
                ledger.admit(known.release_id, people)  # the next run meets them again
        cohorts = members.cohorts_of(journal, people)
        made = {(w[1], w[2]): w[3] for w in map(str.split, seen) if w[0] == "made"}
        fates = {
            (known.release_id, stage): fate
            for known in releases.values()
            for stage, fate in resuming.resume(
                ledger, folder, known, made, resumed_by=resumed_by
            ).items()
        }
    except LedgerError:
        report.broken += 1
        return
    finally:
        ledger.close()
    under, lost, owed = False, False, 0.0
    for line, times in seen.items():
        word, name, *rest = line.split()
        release = releases.get(name)
        if release is None:
            under, lost = under or word != "reserved", lost or word == "reserved"
            continue
        stages = release.stages
        if word == "read":
            under |= not release.opened
            owed += COST
        elif word == "admitted":
            under |= not release.opened or any(cohorts.get(p) != rest[0] for p in rest[1:])
        elif word == "drew":
            under |= stages["table_model"].starts < times
        elif word == "stepped":
            under |= stages["image_model"].steps < times * INTERVAL
        elif word == "committed":
            lost |= stages[rest[0]].artifacts is None
    report.under_counts += under or spent < owed
    report.lost += lost
    whole = [fate for key, fate in fates.items() if key in made]
    report.whole += bool(whole)
    report.recovered += resuming.COMMITTED in whole
    # Repeated steps have been paid for as replays; nothing else may be repeated.
    report.redrawn += resuming.OTHER_OUTPUT in fates.values() or any(
        fate == resuming.RUNS_AGAIN and stage == "table_model" for (_, stage), fate in fates.items()
    )
