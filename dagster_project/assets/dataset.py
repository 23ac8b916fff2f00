"""The data as it shows without a record: its version and its public contract."""

import dagster as dg

from dagster_project.provenance import code_version
from dagster_project.resources import DataSet


@dg.asset(
    group_name="public",
    tags={"zone": "public"},
    kinds={"dvc"},
    # Imports of resources are not followed: these are the modules that `DataSet` calls.
    code_version=code_version(
        __name__, "dagster_project.pairs.versions", "dagster_project.table.schema"
    ),
    io_manager_key="release_id",
)
def dataset(data: DataSet) -> dg.MaterializeResult[str]:
    """Reads data.dvc, schema.yaml, file names and column headers; no record. The version is the
    DVC md5, so new data makes everything behind it stale."""
    schema, version = data.schema(), data.version()
    table = "\n".join(
        [
            "| attribute | kind | cells |",
            "|---|---|---|",
            *(f"| {a.name} | {a.kind} | {', '.join(a.labels)} |" for a in schema.attributes),
        ]
    )
    image = schema.image
    return dg.MaterializeResult(
        value=version.text,
        metadata={
            "version": version.text if schema.public else "hidden: the data is not public",
            "under DVC": version.tracked,
            "n_public": schema.n_public,
            "image": f"{image.channels} x {image.height} x {image.width}",
            "attributes": dg.MetadataValue.md(table),
        },
        data_version=dg.DataVersion(f"{version.text} {schema.hash}"),
    )
