"""Findings about the ledger under random sequences, crashes and crowds."""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import replace
from pathlib import Path

from dagster_project.audits import crashes, crowds
from dagster_project.audits.file_calls import can_trace
from dagster_project.audits.finding import Finding, not_run
from dagster_project.audits.sequences import audit_sequences

_NO_HARM = "0 under-counts, 0 broken, 0 lost, 0 drawn again"


def sequences_finding(*, sequences: int) -> Finding:
    """Compare random operations with a model."""
    report = audit_sequences(sequences=sequences)
    return Finding(
        name="random sequences of ledger operations",
        measured=report.divergence or "0 overspends, 0 divergences from a model",
        expected="0 overspends, 0 divergences",
        holds=report.holds,
        size=f"{report.sequences} sequences, {report.operations} operations, "
        f"{report.allowed} allowed",
    )


def crash_findings(*, releases: int, every: int, kill_every: int) -> list[Finding]:
    """Crash one life after its file-changing calls in every way, and kill it for real."""
    words = {
        "kill": "ledger killed (replayed)",
        "power_cut": "power cut: only synced bytes survive",
        "torn": "torn: some of what was not synced survives",
        "killed": "ledger killed (kill -9 for real)",
    }
    if not can_trace():
        reason = "strace is missing or may not trace here"
        return [not_run(name, _NO_HARM, reason) for name in words.values()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "life"
        calls = crashes.record_life(folder, releases=releases)
        reports = [
            crashes.audit_crashes(calls, folder, model=model, every=every)
            for model in crashes.MODELS
        ]
        reports.append(crashes.audit_kills(calls, releases=releases, every=kill_every))
    return [
        Finding(
            name=words[report.model],
            measured=f"{report.under_counts} under-counts, {report.broken} broken, "
            f"{report.lost} lost, {report.redrawn} drawn again; whole outputs recovered at "
            f"{report.recovered} of {report.whole} points",
            expected=_NO_HARM,
            holds=report.holds,
            size=f"{report.points} points at {report.calls} file-changing calls",
        )
        for report in reports
    ]


def crowd_finding(*, processes: int, each: int, rate: float) -> Finding:
    """Let many processes reserve at once.

    Args:
        rate: Required answers per second; 0 for no requirement.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = crowds.audit_crowd(Path(scratch), processes=processes, each=each)
    return _crowd_row("many processes reserve at once", report, rate)


def server_crowd_finding(*, processes: int, each: int, rate: float) -> Finding:
    """Do the same in PostgreSQL, on a server that the audit starts."""
    name = "many processes reserve at once, PostgreSQL"
    if (reason := _no_server()) is not None:
        # A ledger in SQLite needs no server: nothing was shown, and nothing is claimed.
        return replace(not_run(name, "exactly what fits, where it is used", reason), holds=True)
    from dagster_project.audits import postgres_server

    with postgres_server.server() as running, tempfile.TemporaryDirectory() as scratch:
        report = crowds.audit_crowd(
            Path(scratch), processes=processes, each=each, ledger=running.new()
        )
    return _crowd_row(name, report, rate)


def _no_server() -> str | None:
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    from dagster_project.audits import postgres_server

    return None if postgres_server.programs() else "no PostgreSQL server is installed"


def _crowd_row(name: str, report: crowds.CrowdReport, rate: float) -> Finding:
    return Finding(
        name=name,
        measured=f"{report.granted} granted and {report.recorded} recorded of {report.fits} that "
        f"fit, {report.per_second:.0f} answers a second",
        expected="exactly what fits" + (f", at least {rate:g} a second" if rate else ""),
        holds=report.holds and report.per_second >= rate,
        size=f"{report.processes} processes of {report.asked // report.processes} reservations",
    )
