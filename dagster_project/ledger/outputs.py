"""A stage's output: drawn once, sealed when complete, and committed, if necessary by a later run.

A process can die, or the ledger's storage become unreachable, between the last byte of an output
and its commit. A run therefore first leaves a record beside the private data: the hashes of what it
made, under a keyed hash that names the very ledger entry that started the stage. A resuming run
commits exactly those bytes and runs nothing. Without the record, or if a single byte differs from
it, the stage is as spent as if it had never ended: nobody can draw twice or choose between outputs.

The record does not guarantee durability. It may survive a power cut that its files do not, and is
then worthless, because every file is compared with it.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.ledger.errors import ArtifactAltered
from dagster_project.ledger.files import file_sha256, require_unaltered
from dagster_project.ledger.identity import make_folder, sync_folder
from dagster_project.ledger.records import Artifacts
from dagster_project.privacy.plan import canonical_json

if TYPE_CHECKING:
    from dagster_project.ledger.ledger import Ledger


def run_once(
    ledger: Ledger,
    release_id: str,
    stage: str,
    run: Callable[..., None],
    *,
    executed: Mapping[str, Mapping[str, Any]] | None,
    files: Iterable[str],
    parents: Iterable[str],
    root: Path,
    records: Path,
    prepare: Callable[[], Any] | None = None,
) -> bool:
    """Run a stage that makes files under `root`, unless it is committed or already ran.

    A committed stage is verified byte by byte and not run again: its noise is drawn once.

    Args:
        ledger, release_id: The ledger, and the release to which the stage belongs.
        stage: Its name in the plan.
        run: Makes the files; takes what `prepare` returned, if there is one.
        executed: What will run, by mechanism; None for post-processing.
        files: The files, relative to `root`.
        parents: Committed stages it is made from, with their files under `root`.
        root: Folder of the outputs, two levels below the project's.
        records: Private folder for the record of a finished run, anywhere below the project's.
        prepare: Work that draws no noise and releases nothing, such as exact sums. It runs before
            the stage is begun, so that it can fail, and run again, without a part of the budget.

    Returns:
        Whether it ran now.

    Raises:
        LedgerError: The ledger refuses; nothing has run.
    """
    output = _Output(release_id, stage, tuple(files), tuple(parents), root)
    if ledger.committed(release_id, stage) is not None:
        ledger.verify_artifacts(release_id, stage, root)
        return False
    for parent in output.parents:
        ledger.verify_artifacts(release_id, parent, root)
    if executed is None:
        run()
        ran, made, durable = True, output.hashes(), []
    else:
        record = records / f"{stage}.json"
        found = output.recorded(record, ledger.output_key(release_id, stage))
        ran = found is None
        if found is None:
            make_folder(records)
            given: tuple[Any, ...] = ()
            if prepare:
                ledger.require_startable(release_id, stage, executed)
                given = (prepare(),)
            ledger.begin(release_id, stage, executed)
            # Fetched first, so that only the record's storage is needed once the run is over.
            key = ledger.output_key(release_id, stage)
            run(*given)
            found = output.record(record, key)
        made, durable = found, [record]
    # A committed hash must never name bytes that a power cut can still take back.
    for path in (*(root / name for name in output.files), *durable):
        _make_durable(path, root.parent.parent)
    ledger.commit(release_id, stage, made, output.parents)
    return ran


@dataclass(frozen=True)
class _Output:
    """The output that a stage is to make; see `run_once`."""

    release_id: str
    stage: str
    files: tuple[str, ...]
    parents: tuple[str, ...]
    root: Path

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of each file."""
        return {name: file_sha256(self.root / name) for name in self.files}

    def record(self, place: Path, key: bytes) -> dict[str, str]:
        """Write the record of a finished run and return the hashes."""
        made = self.hashes()
        place.write_text(json.dumps({"files": made, "seal": self._seal(made, key)}))
        return made

    def recorded(self, place: Path, key: bytes) -> dict[str, str] | None:
        """Return the hashes recorded by the last start's run, if every file matches them."""
        try:
            content = json.loads(place.read_text())
            made, seal = content["files"], content["seal"]
            sealed = hmac.compare_digest(seal, self._seal(made, key)) and set(made) == {*self.files}
        except (OSError, ValueError, KeyError, TypeError):
            return None  # never written, or incomplete
        if not sealed:
            return None
        whole = Artifacts(
            release_id=self.release_id,
            stage=self.stage,
            files=made,
            parents=self.parents,
            entry=0,
        )
        try:
            require_unaltered(whole, self.root)
        except ArtifactAltered:
            return None
        return made

    def _seal(self, made: Mapping[str, str], key: bytes) -> str:
        content = canonical_json([made, self.parents])
        return hmac.new(key, content.encode(), "sha256").hexdigest()


def _make_durable(path: Path, top: Path) -> None:
    """Sync a file and the names on its path, up to those in the folder `top`."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    for folder in path.parents:
        sync_folder(folder)
        if folder == top:
            break
