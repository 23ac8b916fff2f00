"""What to say when a run is interrupted: what is spent, and how it goes on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.cli.place import open_ledger

if TYPE_CHECKING:
    from dagster_project.ledger.records import ReleaseRecord

# How Dagster reports Ctrl-C in a step, in an event that holds only names of classes.
_INTERRUPTS = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}


def was_interrupted(error: Any) -> bool:
    """Return whether an error of an event, or one of its causes, is an interruption."""
    while error is not None:
        if error.cls_name in _INTERRUPTS:
            return True
        error = error.cause or error.context
    return False


def sentence(root: Path, release_id: str | None, arguments: Sequence[str] | None = None) -> str:
    """Return one line: that the run stopped, what is spent, and the command that resumes.

    Args:
        root: Folder of population.yaml.
        release_id: The release that was running, None if it had no plan yet.
        arguments: Arguments of the command; None takes those of this process.
    """
    from dagster_project.ledger.errors import LedgerError

    again = shlex.join(["dptabimage", *(sys.argv[1:] if arguments is None else arguments)])
    known, cap = None, 1.0
    if release_id is not None:
        try:
            ledger = open_ledger(root)
        except LedgerError as error:
            return f"stopped; what is spent cannot be read now ({error}); to resume: {again}"
        try:
            known, cap = ledger.releases().get(release_id), ledger.cohorts()[0].cap
        finally:
            ledger.close()
    if known is None:
        return f"stopped; nothing is reserved or spent; to start again: {again}"
    name, epsilon = known.release_id, known.plan["composed_epsilon"]
    if known.status == "RESERVED":
        return (
            f"stopped; release {name} is reserved and nothing is spent yet; to resume: {again} "
            f"(or give it back: dptabimage ledger void {name})"
        )
    if known.status in ("STOPPED", "VOID"):
        return f"stopped; {_ended(known, cap)}"
    if broken := _unfinished(known):
        return (
            f"stopped; epsilon {epsilon:.3f} is spent on release {name}, which was interrupted "
            f"while {broken} drew its noise and cannot be resumed, because noise is drawn once: "
            "make another release with --name"
        )
    return (
        f"stopped; epsilon {epsilon:.3f} is spent on release {name}, and resuming costs nothing "
        f"more: {again}"
    )


def _ended(release: ReleaseRecord, cap: float) -> str:
    """Say of a release that cannot be resumed what it paid, and why it ended."""
    from dagster_project.ledger.gdp_filter import percent

    name, again = release.release_id, "make another release with --name"
    if release.void:
        return f"release {name} was given back and nothing is spent on it: {again}"
    paid = percent(max(release.paid.values(), default=0.0) / cap)
    return (
        f"release {name} has ended because its count found too few people, and cannot be resumed; "
        f"{paid} of the lifetime budget is spent on it: `dptabimage check` says what became of the "
        f"rows, then {again}"
    )


def _unfinished(release: ReleaseRecord) -> str | None:
    """Return the stage that began to draw noise, did not finish and cannot go on in steps."""
    for name, stage in release.stages.items():
        if stage.starts and stage.artifacts is None and stage.schedule is None:
            return name
    return None
