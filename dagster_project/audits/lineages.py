"""Audit of lineage in a long ledger, and of damage to the ledger's file.

Every released file must lead back to every spend behind it, quickly. Damage to the ledger's file
must be detected: a changed character, a deleted row, a truncated tail.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from dagster_project.audits import plans
from dagster_project.audits.finding import Finding
from dagster_project.audits.lives import POPULATION
from dagster_project.ledger import Ledger, LedgerError, lineage
from dagster_project.ledger.population import Population

_ENTRIES_EACH = 6  # reserved, opened, begun, and three commits
_NOISE = 1e5  # so little spending that thousands of releases fit


def long_ledger(folder: Path, entries: int) -> tuple[Population, list[str]]:
    """Create an anchored ledger of about `entries` entries, and return its released hashes."""
    path = folder / "population.yaml"
    path.write_text(POPULATION)
    population = Population.load(path)
    ledger, files = Ledger.open(population), []
    for number in range(entries // _ENTRIES_EACH):
        name, digest = f"release-{number}", f"{number:064x}"
        plan = plans.plan(name, plans.table(_NOISE))
        ledger.reserve(plan, approved_by="audit", schema_public=False)
        ledger.open_reservation(name)
        ledger.begin(name, "table_model", {"table_model": dict(plan.mechanisms[0].declared)})
        ledger.commit(name, "table_model", {"model.npz": digest[::-1]})
        # Each release also descends from the one before it.
        older = [f"release-{number - 1}/sampled"] if number % 5 else []
        ledger.commit(name, "sampled", {"pairs.parquet": digest}, ["table_model", *older])
        ledger.attach(name, git_commit="drawn")
        files.append(digest)
    population = population.write_anchor(ledger.anchor())
    ledger.close()
    return population, files


def _spends(chain: dict, files: list[str]) -> tuple[set[str], set[str]]:
    """Return the releases whose spend a chain names, and those that it must name."""
    named = {
        release["release_id"]
        for release in chain["releases"]
        for stage in release["stages"]
        if any(item["event"] for item in stage["mechanisms"])
    }
    number = files.index(chain["file"]["sha256"])
    return named, {f"release-{n}" for n in range(number - number % 5, number + 1)}


def audit_lineage(*, entries: int, traced: int) -> list[Finding]:
    """Trace `traced` of the files of a ledger of `entries`, then damage copies of it."""
    with tempfile.TemporaryDirectory() as scratch:
        population, files = long_ledger(Path(scratch), entries)
        started = time.perf_counter()
        ledger = Ledger.open(population)
        opening = time.perf_counter() - started
        slowest, wrong = 0.0, 0
        for digest in files[:: max(1, len(files) // traced)][:traced]:
            started = time.perf_counter()
            named, owed = _spends(lineage.trace(ledger, digest), files)
            slowest = max(slowest, time.perf_counter() - started)
            wrong += named != owed
        length = ledger.anchor().entries
        ledger.close()
        damage = {
            "a flipped character": "UPDATE entries SET entry = replace(entry, '{', '{ ') "
            f"WHERE seq = {length // 2}",
            "a deleted row": f"DELETE FROM entries WHERE seq = {length // 2}",
            "a cut tail": f"DELETE FROM entries WHERE seq > {length - 3}",
        }
        seen = {name: _seen(population, statement) for name, statement in damage.items()}
    return [
        Finding(
            name="lineage of released files",
            measured=(
                f"{wrong} chains incomplete; {slowest:.3f} s for the slowest file, after opening "
                f"the ledger in {opening:.2f} s"
            ),
            expected="0 incomplete, below 1 s",
            holds=wrong == 0 and slowest < 1,
            size=f"{min(traced, len(files))} files of a ledger of {length} entries",
        ),
        Finding(
            name="damage to the ledger's file",
            measured="; ".join(f"{name}: {what or 'NOT SEEN'}" for name, what in seen.items()),
            expected="each seen at opening",
            holds=all(seen.values()),
            size=f"3 kinds in a ledger of {length} entries",
        ),
    ]


def _seen(population: Population, statement: str) -> str:
    """Return the ledger's error on a copy damaged by the statement, or "" if it opens."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "copy"
        shutil.copytree(population.path.parent, copy)
        database = next(copy.rglob("*.sqlite"))
        with sqlite3.connect(database) as connection:
            guards = connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall()
            for name, _ in guards:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(statement)
            for _, sql in guards:
                connection.execute(sql)
        connection.close()
        try:
            Ledger.open(Population.load(copy / "population.yaml")).close()
        except LedgerError as error:
            return str(error).partition(":")[0]
        return ""
