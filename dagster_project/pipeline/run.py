"""Makes a release without an orchestrator: reserve the plan, run every stage, enter the bundle.

The other work of the assets (metadata, MLflow, the private report) is in `orchestration`.
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
    allow_delta: bool = False,
    compute: Compute | None = None,
    progress: Progress = silent,
) -> Path:
    """Make a release and return the folder of its public bundle.

    A second call resumes where the first stopped: what is committed is not drawn again, and the
    same plan is reserved only once.

    Args:
        plan: Solved plan (`pipeline.privacy_plan.solve`) for this schema and version of the data.
        data: Folder of the private data.
        ledger: The population's ledger, open.
        schema: The public contract.
        root: Folder of the three zones `private`, `models` and `releases`.
        heldout_key: The population's key, which determines the held-out people.
        approved_by: Who approved the spending; recorded in the ledger.
        n: Number of pairs to draw.
        seed: Public seed of the sampling.
        allow_delta: Accept a larger delta on public data; recorded in the ledger.
        compute: Where and how networks run.
        progress: Callback that receives the fraction done and a text.

    Raises:
        LedgerError: If the ledger refuses; nothing that it did not allow has run then.
    """
    release = Release(
        plan=plan, schema=schema, ledger=ledger, root=root, compute=compute or Compute()
    )
    ledger.reserve(
        plan, approved_by=approved_by, schema_public=schema.public, allow_delta=allow_delta
    )
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
