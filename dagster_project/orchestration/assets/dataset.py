"""The data without its records: its version and its public contract."""

import dagster as dg

from dagster_project.orchestration.resources import BudgetLedger, DataSet
from dagster_project.planning.provenance import code_version


@dg.observable_source_asset(group_name="public", tags={"zone": "public"})
def data_files(data: DataSet, budget: BudgetLedger) -> dg.DataVersion:
    """The data folder as it is now. An observation, such as that of the sensor after `dvc add`,
    shows at once that `dataset` is out of date; it reads no record. There must be a ledger."""
    return dg.DataVersion(data.keyed_version(budget.population()))


@dg.asset(
    deps=[data_files],
    group_name="public",
    tags={"zone": "public"},
    kinds={"dvc"},
    # Imports of resources are not followed, so these are the modules that `DataSet` calls.
    code_version=code_version(
        __name__, "dagster_project.data.versions", "dagster_project.data.schema"
    ),
    io_manager_key="release_id",
)
def dataset(data: DataSet, budget: BudgetLedger) -> dg.MaterializeResult[str]:
    """Read data.dvc, schema.yaml, file names and column headers, but no record. The version is
    a keyed hash of the DVC md5, so new data makes everything downstream stale, and nobody without
    the population's identity key can test guesses of the data."""
    from dagster_project.pipeline import beforehand

    schema, version = data.schema(), data.version()
    beforehand.require_for_new_ledger(schema, budget.population())
    budget.open().close()  # creates the ledger and its key if there are none yet
    keyed = budget.population().keyed_version(version.text)
    table = "\n".join(
        [
            "| attribute | kind | values |",
            "|---|---|---|",
            *(
                f"| {a.name} | {a.declared_kind} | {', '.join(a.labels)} |"
                for a in schema.attributes
            ),
        ]
    )
    image = schema.image
    return dg.MaterializeResult(
        value=keyed,
        metadata={
            "version": version.text if schema.public else keyed,
            "under DVC": version.tracked,
            "n_public": schema.n_public,
            "image": f"{image.channels} x {image.height} x {image.width}",
            "attributes": dg.MetadataValue.md(table),
        },
        data_version=dg.DataVersion(f"{keyed} {schema.hash}"),
    )
