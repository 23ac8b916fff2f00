"""Sensor that notices a new version of the data and proposes priced releases of it.

It spends nothing: no sensor of this project requests a run. A person reads the proposal, launches
one of its commands and is recorded in the ledger as the approver.
"""

from __future__ import annotations

import dagster as dg

from dagster_project.data.versions import recorded_version
from dagster_project.ledger.errors import LedgerError
from dagster_project.orchestration.resources import BudgetLedger, DataSet, ReleaseStore


@dg.sensor(
    name="data_changed",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Proposes how to release a new version of the data; a person decides.",
)
def data_changed(
    context: dg.SensorEvaluationContext,
    data: DataSet,
    budget: BudgetLedger,
    store: ReleaseStore,
) -> dg.SkipReason | dg.SensorResult:
    """Compare the version in data.dvc with the released versions; reads no record.

    A new version is observed, so that the graph shows at once that `dataset` is out of date.
    """
    try:
        version = recorded_version(data.path)  # every tick reads only this: the folder may be large
        if version is None:
            return dg.SkipReason("the data is not under DVC, so its versions cannot be told apart")
        population = budget.population()
        if population.anchor is None and not population.key_path.exists():
            return dg.SkipReason("this population has no ledger yet: nothing has been released")
        keyed = population.keyed_version(version)  # Dagster keeps cursors outside the private zone
        if keyed == context.cursor:
            return dg.SkipReason("no new version of the data")
        data.version()  # refuses a folder whose content is not the one recorded in data.dvc
        text = _proposal(data, budget, version)
    except (LedgerError, ValueError, OSError) as error:
        return dg.SkipReason(str(error))
    context.update_cursor(keyed)
    reason = "this version of the data has already been released"
    if text is not None:
        folder = store.path / "private" / "proposals"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{keyed[:16]}.md"
        file.write_text(text, encoding="utf-8")
        reason = f"new data: wrote private/proposals/{file.name}; a person decides:\n{text}"
    return dg.SensorResult(
        skip_reason=reason, asset_events=_observations(context, f"{keyed} {data.schema().hash}")
    )


def _observations(context: dg.SensorEvaluationContext, version: str) -> list[dg.AssetObservation]:
    """Return the observation of a version, none if `dataset` was materialised from it."""
    made = context.instance.get_latest_materialization_event(dg.AssetKey("dataset"))
    if made is not None and made.asset_materialization is not None:
        tags = made.asset_materialization.tags or {}
        if tags.get("dagster/data_version") == version:
            return []
    return [dg.AssetObservation("data_files", tags={"dagster/data_version": version})]


def _proposal(data: DataSet, budget: BudgetLedger, version: str) -> str | None:
    """Return the three modes as text, or None if the version has already been released."""
    from dagster_project.pipeline import proposal

    ledger = budget.open()
    try:
        releases = ledger.releases().values()
        if any(r.status == "COMMITTED" and r.plan["data_version"] == version for r in releases):
            return None
        modes = proposal.propose(
            data.schema(),
            budget.population(),
            ledger,
            proposal.usual_request(ledger),
            data_version=version,
        )
    finally:
        ledger.close()
    return (
        "# The data has changed\n\n"
        "Nothing has been spent. Each option has a price; a person decides which one to launch, "
        "and the ledger records the decision.\n\n" + proposal.as_text(modes) + "\n"
    )
