"""Asset checks. Only checks that read no record can block; those that depend on records never do.

Great Expectations checks whether columns and types match the schema. Results are BOOLEAN_ONLY
outside the private zone, because the richer formats contain values.
"""

import json
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.orchestration.resources import (
    BudgetLedger,
    ComputeResource,
    DataSet,
    ReleaseStore,
)
from dagster_project.orchestration.stage import guarded

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

    from dagster_project.data.schema import Schema


@dg.asset_check(asset="dataset", blocking=True)
def files_match_schema(data: DataSet) -> dg.AssetCheckResult:
    """Check that files, columns and types match schema.yaml; reads no record."""
    from dagster_project.data.layout import empty_frame, find_layout

    schema = data.schema()
    layout, faults = find_layout(data.path, schema)
    if layout is not None:
        import great_expectations.expectations as gxe

        columns = {schema.person_id, *schema.columns}
        optional = {schema.image.column}
        frame = empty_frame(layout, schema).drop(columns=list(optional), errors="ignore")
        if not all(_expect(frame, [gxe.ExpectTableColumnsToMatchSet(column_set=sorted(columns))])):
            faults = ["The columns are not those of schema.yaml."]
    return dg.AssetCheckResult(passed=not faults, description=" ".join(faults) or "as declared")


@dg.asset_check(asset="pairs", blocking=False)
def records_fit_schema(
    pairs: str,
    budget: BudgetLedger,
    store: ReleaseStore,
    compute: ComputeResource,
) -> dg.AssetCheckResult:
    """Check that every attribute has more than one value and that its codes lie in its domain.

    The outcome stays in the private zone unless the data is public, and never stops a release.
    """
    from dagster_project.pipeline.pairs import load_train

    ledger = budget.open()

    def private() -> tuple[bool, dict[str, bool]]:
        release = store.load(pairs, ledger, compute.settings())
        outcome = _fit(load_train(release).codes, release.schema)
        (release.private / "expectations.json").write_text(json.dumps(outcome, indent=1))
        return release.schema.public, outcome

    try:
        public, outcome = guarded("records_fit_schema", store.path, private)
    except dg.Failure as failure:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description=failure.description
        )
    finally:
        ledger.close()
    if not public:
        return dg.AssetCheckResult(
            passed=True, description="done; the outcome is in the private zone: expectations.json"
        )
    failed = [name for name, passed in outcome.items() if not passed]
    return dg.AssetCheckResult(
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(failed) or f"{len(outcome)} expectations hold",
    )


def _fit(codes: "np.ndarray", schema: "Schema") -> dict[str, bool]:
    """Return whether each expectation holds, by column and name."""
    import great_expectations.expectations as gxe
    import pandas as pd

    expectations: list[Any] = []
    for attribute in schema.attributes:
        expectations += [
            gxe.ExpectColumnValuesToBeBetween(
                column=attribute.name, min_value=0, max_value=attribute.size - 1
            ),
            gxe.ExpectColumnUniqueValueCountToBeBetween(column=attribute.name, min_value=2),
        ]
    outcome = _expect(pd.DataFrame(codes, columns=list(schema.names)), expectations)
    names = [f"{e.column}: {type(e).__name__}" for e in expectations]
    return dict(zip(names, outcome, strict=True))


def _expect(frame: "pd.DataFrame", expectations: "Sequence[Expectation]") -> list[bool]:
    """Return whether each expectation holds, which is all that leaves Great Expectations."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx

    for talkative in ("great_expectations", "great_expectations.data_context.types.base"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("frame")
        .add_dataframe_asset("frame")
        .add_batch_definition_whole_dataframe("whole")
        .get_batch({"dataframe": frame})
    )
    return [bool(batch.validate(e, result_format="BOOLEAN_ONLY").success) for e in expectations]
