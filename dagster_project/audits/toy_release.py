"""Audit of a whole release of toy people with secrets planted in their tables and images.

Does any secret leave the private zone, and does anything outside it confirm a guess of the data?
The graph runs as a user runs it, in its own process. Everything it leaves outside the private zone
and the data, and everything it prints, is then searched, including compressed content.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from dagster_project.audits import copies, guesses, toys
from dagster_project.audits.finding import Finding
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.privacy.plan import Plan

PRIVATE = ("data", "private")


def searchable(path: Path) -> Iterator[bytes]:
    """Yield the content of a file, raw and unpacked."""
    content = path.read_bytes()
    yield content
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                yield packed.read(name)
    if content[:4] == b"PAR1" and content[-4:] == b"PAR1":
        table = pq.read_table(path)
        yield repr(table.schema.metadata).encode()
        for column in table.columns:
            yield repr(column.to_pylist()).encode()


def leaks(root: Path, *, secret: str = toys.SECRET) -> tuple[int, list[str]]:
    """Return the number of files searched outside the private zone, and those with a secret."""
    needles = [form.lower() for form in (secret.encode(), secret.encode("utf-16-le"))]
    searched, found = 0, []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if not path.is_file() or name.parts[0] in PRIVATE:
            continue
        searched += 1
        parts = (str(name).encode(), *searchable(path))
        if any(needle in part.lower() for part in parts for needle in needles):
            found.append(str(name))
    return searched, found


def audit_toy_release() -> list[Finding]:
    """Make the same release twice and search what it left."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "project"
        secrets = toys.write_project(root)
        runs = [toys.run(toys.release_command(root)) for _ in range(2)]
        printed = "".join(run.stdout + run.stderr for run in runs)
        codes = [run.returncode for run in runs]
        if any(codes):
            failed = Finding(
                name="a release of drawn people",
                measured=f"exit codes {codes}: {printed[-200:]}",
                expected="made twice",
                holds=False,
                size="2 runs",
            )
            return [failed]
        told = [json.loads(run.stdout) for run in runs]
        searched, found = leaks(root)
        if toys.SECRET.lower() in printed.lower():
            found.append("the terminal")
        population = Population.load(root / "population.yaml")
        ledger = Ledger.open(population)
        kinds = [entry.kind for entry in ledger.entries()]
        plan = Plan.from_json(ledger.release(told[0]["release"]).plan)
        ledger.close()
        wanted = guesses.guessable(root, plan, population.member_key())
        confirmed = guesses.search(root, wanted, printed=printed)[1]
        copied = copies.audit_bundle(
            Path(told[0]["bundle"]), root / "private" / told[0]["release"] / "train" / "images.npy"
        )
        # The search must be able to find secrets: the data itself holds them.
        able = any(
            toys.SECRET.encode() in part for part in searchable(root / "data" / "train.parquet")
        )
    same = told[0]["release"] == told[1]["release"] and told[0]["epsilon"] == told[1]["epsilon"]
    begun = {kind: kinds.count(kind) for kind in ("RESERVED", "OPENED", "STARTED")}
    return [
        Finding(
            name="planted secrets",
            measured=f"in {len(found)} files{_first(found)}",
            expected="in 0 files, and found in the data itself",
            holds=not found and able,
            size=f"{secrets} secrets; {searched} files of Dagster, MLflow, models and bundle, and "
            "the terminal",
        ),
        Finding(
            name="guesses of the data",
            measured=f"confirmed in {len(confirmed)} places{_first(confirmed)}",
            expected="confirmed in 0 places without the identity key",
            holds=not confirmed,
            size=f"{len(wanted.digests)} hashes, whole or cut, and {len(wanted.numbers)} numbers",
        ),
        copied,
        Finding(
            name="the same release once more",
            measured=f"entries {begun}, {'the same release' if same else 'another release'}",
            expected="1 reservation, opened once, 4 stages begun once",
            holds=same and begun == {"RESERVED": 1, "OPENED": 1, "STARTED": 4},
            size="2 runs of the whole graph",
        ),
    ]


def _first(found: Iterable[str]) -> str:
    names = ", ".join(list(found)[:3])
    return f": {names}" if names else ""
