"""Resuming of a stage that a crash interrupted: it ends with the one output it had made, or none.

Stages resume as in an ordinary next run, through the code that every release uses. The mutants are
ways to resume that could draw noise twice, or commit what no run had finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dagster_project.audits.lives import OUTPUTS, PARENTS, place
from dagster_project.ledger import Ledger, StageSpent, file_sha256
from dagster_project.ledger.outputs import run_once
from dagster_project.ledger.records import ReleaseRecord

Resume = Callable[..., bool]
COMMITTED, FORFEITED, RUNS_AGAIN, OTHER_OUTPUT = "committed", "forfeited", "runs again", "other"


class _RunsAgainError(Exception):
    """Raised if the stage's code was called, which would draw noise."""


def resume(
    ledger: Ledger,
    folder: Path,
    release: ReleaseRecord,
    made: Mapping[tuple[str, str], str],
    *,
    resumed_by: Resume = run_once,
) -> dict[str, str]:
    """Resume each stage of a release that was begun and is not committed.

    Args:
        folder: Folder that the crash left.
        made: SHA-256 of each output that was seen whole, by release and stage.
        resumed_by: `run_once`, or a fault in its place.

    Returns:
        By stage: COMMITTED if the output that had been made was committed, FORFEITED, RUNS_AGAIN if
        its code was called, or OTHER_OUTPUT if something else was committed.

    Raises:
        LedgerError: What was committed before the crash is not whole.
    """
    fates = {}
    for stage, output in OUTPUTS.items():
        known = release.stages[stage]
        root, records = place(folder, release.release_id)
        if known.artifacts is not None:
            ledger.verify_artifacts(release.release_id, stage, root)
        if known.artifacts is not None or not known.starts:
            continue
        try:
            resumed_by(
                ledger,
                release.release_id,
                stage,
                _run_again,
                executed=known.declared,
                files=(output,),
                parents=PARENTS[stage],
                root=root,
                records=records,
            )
        except StageSpent:
            fates[stage] = FORFEITED
        except _RunsAgainError:
            fates[stage] = RUNS_AGAIN
        else:
            committed = ledger.committed(release.release_id, stage)
            whole = made.get((release.release_id, stage))
            same = committed is not None and committed.files == {output: whole}
            fates[stage] = COMMITTED if same else OTHER_OUTPUT
    return fates


def _run_again() -> None:
    raise _RunsAgainError


def draw_again(
    _ledger: Ledger, _release_id: str, _stage: str, run: Callable[[], None], **_options: Any
) -> bool:
    """Run a stage again that was begun and left nothing whole, which is a fault."""
    run()
    return True


def take_what_is_there(
    ledger: Ledger,
    release_id: str,
    stage: str,
    _run: Callable[[], None],
    *,
    files: Iterable[str],
    parents: Iterable[str],
    root: Path,
    **_options: Any,
) -> bool:
    """Commit whatever is in the place of the output, which is a fault."""
    there = {name: file_sha256(root / name) for name in files if (root / name).is_file()}
    if not there:
        raise StageSpent(f"stage {stage!r} has left no output")
    ledger.commit(release_id, stage, there, tuple(parents))
    return False


FAULTS: Mapping[str, Resume] = {
    "draw again": draw_again,
    "take what is there": take_what_is_there,
}
