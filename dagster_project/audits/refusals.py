"""Audit that a release that does not fit is refused quickly and before a record is read.

The release command runs on a population whose cap is too small, with every read of its files
traced. Parquet stores columns and types in a footer, which may be read; readers fetch it as the
last 64 KiB of the file, so the pages of records before it must remain unread.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dagster_project.audits import lives, toys
from dagster_project.audits.file_calls import can_trace
from dagster_project.audits.finding import Finding, not_run
from dagster_project.ledger import BudgetExceeded, Ledger
from dagster_project.ledger.population import Population
from dagster_project.privacy import accounting

FOOTER = 64 * 1024
REFUSED = 3
_TRACED = "open,openat,read,pread64,readv,preadv,preadv2,mmap"
_READ = re.compile(r"(read|pread64|readv|preadv2?|mmap)\((.*)\)\s+= (-?\w+)")


@dataclass(frozen=True)
class Read:
    """A read of a file: its offset (None if unknown) and its number of bytes."""

    path: Path
    offset: int | None
    size: int


def traced_reads(command: Sequence[str], folder: Path) -> tuple[int, list[Read]]:
    """Run a command and return its exit code and all its reads of files below a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "trace"
        prefix = ["strace", "-f", "--seccomp-bpf", "-y", "-s", "0", "-o", str(log)]
        done = subprocess.run(
            [*prefix, "-e", f"trace={_TRACED}", *command],
            cwd=Path(__file__).parents[2],
            capture_output=True,
        )
        with log.open(errors="replace") as lines:
            calls = [read for line in _whole(lines) if (read := _parse(line, folder)) is not None]
    return done.returncode, calls


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Join calls that the trace shows in two parts because another thread intervened."""
    begun: dict[str, str] = {}
    for line in lines:
        process, _, text = line.partition(" ")
        if "<unfinished ...>" in text:
            begun[process] = text.partition("<unfinished ...>")[0]
        elif "resumed>" in text:
            yield begun.pop(process, "") + text.partition("resumed>")[2]
        else:
            yield text


def _parse(line: str, folder: Path) -> Read | None:
    match = _READ.search(line)
    if match is None or f"<{folder.resolve()}/" not in line:
        return None
    name, arguments, result = match.groups()
    path = Path(arguments.partition("<")[2].partition(">")[0])
    last = arguments.rpartition(", ")[2]
    if name == "mmap":
        return Read(path, int(last, 0), path.stat().st_size)
    offset = int(last) if name.startswith("pread") and last.isdigit() else None
    return Read(path, offset, max(0, int(result)))


def record_bytes(reads: Sequence[Read]) -> int:
    """Return the bytes read of records: of images, and of tables before their footer."""
    total = 0
    for read in reads:
        if read.path.name == "schema.yaml":
            continue
        footer = max(0, read.path.stat().st_size - FOOTER)
        if read.path.suffix != ".parquet":
            total += read.size
        elif read.offset is not None:
            total += max(0, min(read.offset + read.size, footer) - read.offset)
        elif read.size > 4:  # the four letters every Parquet file starts with
            total += read.size
    return total


def seconds_to_refuse(folder: Path) -> float:
    """Return the seconds from a calibrated plan to the ledger's refusal, inside one process."""
    path = folder / "population.yaml"
    path.write_text(lives.POPULATION.replace("10.0", "1.0"))
    ledger, plan = Ledger.open(Population.load(path)), lives.plan("refused")
    # A calibrated plan has already been composed, so the accountant is loaded.
    accounting.epsilon(plan.events, target_delta=plan.target_delta, discretization=1e-2)
    started = time.perf_counter()
    try:
        assert not ledger.price(plan).fits
        ledger.reserve(plan, approved_by="audit", schema_public=False)
    except BudgetExceeded:
        return time.perf_counter() - started
    finally:
        ledger.close()
    return float("inf")


def audit_refusals() -> list[Finding]:
    """Audit a release of epsilon 4 under a lifetime cap of 1: its time and what it reads."""
    expected = "refused; 0 bytes of records read, nothing written beside the ledger"
    name = "a release that does not fit"
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "project"
        toys.write_project(root, lifetime=1.0)
        seconds = seconds_to_refuse(Path(scratch))
        quick = Finding(
            name="time from a calibrated plan to its refusal",
            measured=f"{seconds:.4f} s",
            expected="below 1 s",
            holds=seconds < 1,
            size="1 refusal",
        )
        if not can_trace():
            return [quick, not_run(name, expected, "strace is missing or may not trace here")]
        code, reads = traced_reads(toys.release_command(root), root / "data")
        touched = record_bytes(reads)
        population = Population.load(root / "population.yaml")
        ledger = Ledger.open(population)
        spent = sum(cohort.spent for cohort in ledger.cohorts())
        ledger.close()
        left = [f for zone in ("private", "models", "releases") for f in (root / zone).rglob("*")]
    opened = len({read.path for read in reads})
    return [
        quick,
        Finding(
            name=name,
            measured=(
                f"exit code {code}, {touched} bytes of records read, a cost of {spent:g} spent, "
                f"{len(left)} files written"
            ),
            expected=expected,
            # A trace that saw no file at all would prove nothing.
            holds=code == REFUSED and opened >= 2 and not (touched or spent or left),
            size=f"1 release, {len(reads)} reads of {opened} data files traced",
        ),
    ]
