"""A release without an orchestrator: reserve the plan, run every stage, enter the bundle.

What an asset does besides (metadata, MLflow, the private report) belongs to `orchestration`.
"""

from __future__ import annotations

from pathlib import Path

from dagster_project.data.progress import Progress, part, silent
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.pipeline.order import between
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.plan import Plan


def run(
    plan: Plan,
    data: Path,
    ledger: Ledger,
    *,
    schema: Schema,
    root: Path,
    heldout_key: bytes,
    approved_by: str,
    n: int,
    seed: int,
    compute: Compute | None = None,
    progress: Progress = silent,
) -> Path:
    """Make a release and return the folder of its public bundle.

    Calling it again goes on where it stopped: what is committed is not drawn again, and the same
    plan is reserved once.

    Args:
        plan: Solved (`pipeline.privacy_plan.solve`), for this schema and this version of the data.
        data: Folder of the private data.
        ledger: The population's, open.
        schema: The public contract.
        root: Folder of the three zones `private`, `models` and `releases`.
        heldout_key: The population's key, which splits held-out people off.
        approved_by: Who approved the spending; stands in the ledger.
        n: Pairs to draw.
        seed: Public seed of the drawing.
        compute: Where and how networks run.
        progress: Fraction done and a text.

    Raises:
        LedgerError: The ledger refuses; nothing that it did not allow has run.
    """
    release = Release(
        plan=plan, schema=schema, ledger=ledger, root=root, compute=compute or Compute()
    )
    ledger.reserve(plan, approved_by=approved_by, schema_public=schema.public)
    release.write_schema()
    stages = between("public_images", "synthetic_release")
    for done, stage in enumerate(stages):
        stage.run(
            release,
            part(progress, done / len(stages), (done + 1) / len(stages)),
            data_dir=data,
            heldout_key=heldout_key,
            folder=release.bundle,
            n=n,
            seed=seed,
        )
    return release.bundle
