"""Notices a new version of the data and writes down what a release of it would cost.

Nothing here spends: no sensor of this project asks for a run. A person reads the proposal and
launches one of its commands, and is recorded in the ledger as having approved.
"""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from dagster_project.data.versions import recorded_version
from dagster_project.ledger.errors import LedgerError
from dagster_project.orchestration.resources import BudgetLedger, DataSet, ReleaseStore


@dg.sensor(
    name="data_changed",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Proposes, for a person to decide, how to release a new version of the data.",
)
def data_changed(
    context: dg.SensorEvaluationContext,
    data: DataSet,
    budget: BudgetLedger,
    store: ReleaseStore,
) -> dg.SkipReason:
    """Compares the version in data.dvc with those that were released; reads no record."""
    try:
        version = recorded_version(data.path)  # alone read at every tick: the folder may be large
        if version is None:
            return dg.SkipReason("the data is not under DVC: its versions cannot be told apart")
        population = budget.population()
        if population.anchor is None and not population.key_path.exists():
            return dg.SkipReason("this population has no ledger yet: nothing has been released")
        keyed = population.keyed_version(version)  # Dagster keeps cursors outside the private zone
        if keyed == context.cursor:
            return dg.SkipReason("no new version of the data")
        data.version()  # refuses a folder that is not what data.dvc names
        text = _proposal(data, budget, version)
    except (LedgerError, ValueError, OSError) as error:
        return dg.SkipReason(str(error))
    context.update_cursor(keyed)
    if text is None:
        return dg.SkipReason("this version of the data is released already")
    folder = store.path / "private" / "proposals"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{Path(version.removeprefix('md5:')).name}.md").write_text(text, encoding="utf-8")
    return dg.SkipReason(f"new data; for a person to decide (private/proposals):\n{text}")


def _proposal(data: DataSet, budget: BudgetLedger, version: str) -> str | None:
    """The three modes in words; None where the version is released already."""
    from dagster_project.pipeline import proposal

    ledger = budget.open()
    try:
        releases = ledger.releases().values()
        if any(r.status == "COMMITTED" and r.plan["data_version"] == version for r in releases):
            return None
        last = proposal.latest(ledger)
        request = (
            proposal.ReleaseRequest.like(last)
            if last is not None
            else proposal.ReleaseRequest(name="release", epsilon=3.0, delta=1e-6, settings={})
        )
        modes = proposal.propose(
            data.schema(), budget.population(), ledger, request, data_version=version
        )
    finally:
        ledger.close()
    return (
        "# The data has changed\n\n"
        "Nothing has been spent. Each of these is priced; launching one is a person's decision, "
        "which the ledger records.\n\n" + proposal.as_text(modes) + "\n"
    )
