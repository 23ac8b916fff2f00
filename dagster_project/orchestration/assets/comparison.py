"""Methods side by side on public data, a trial at a time. No part of a release."""

from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from dagster_project.benchmark.registry import known, module
from dagster_project.orchestration.resources import ComputeResource, DataSet
from dagster_project.planning.provenance import code_version

_BUDGETS = [f"epsilon-{epsilon:g}-seed-{seed}" for epsilon in (1, 3, 10) for seed in range(3)]

TRIALS = dg.MultiPartitionsDefinition(
    {
        "method": dg.StaticPartitionsDefinition(known()),
        "budget": dg.StaticPartitionsDefinition(_BUDGETS),
    }
)


class ComparisonConfig(dg.Config):
    """As the arguments of `dptabimage compare`."""

    n: int = 4000
    delta: float = 1e-6
    budget_seconds: float | None = None
    extractor: Literal["efficientnet-lite0", "pixels"] = "efficientnet-lite0"
    settings: dict[str, Any] = Field(default_factory=dict)
    out: str = Field("comparison", description="Folder of the results.")


@dg.asset(
    group_name="comparison",
    tags={"zone": "comparison"},
    kinds={"python"},
    code_version=code_version(__name__, *map(module, known())),
    partitions_def=TRIALS,
    io_manager_key="release_id",
)
def comparison(
    context: dg.AssetExecutionContext,
    config: ComparisonConfig,
    data: DataSet,
    compute: ComputeResource,
) -> dg.MaterializeResult[str]:
    """One method at one epsilon and seed on data declared public, with a throw-away ledger. NOT A
    RELEASE. `dptabimage compare` with the same settings and folder makes the table of the finished
    trials."""
    from dagster_project.benchmark import NOTICE, bench
    from dagster_project.benchmark.configuration import Configuration, Entry
    from dagster_project.benchmark.trial import Places

    assert isinstance(context.partition_key, dg.MultiPartitionKey)
    keys = context.partition_key.keys_by_dimension
    _, epsilon, _, seed = keys["budget"].split("-")
    schema, out = data.schema(), Path(data.root) / config.out
    configuration = Configuration(
        data=str(data.path),
        data_version=data.version().text,
        schema_hash=schema.hash,
        entries=(Entry(label=keys["method"], method=keys["method"], settings=config.settings),),
        epsilons=(float(epsilon),),
        seeds=(int(seed),),
        delta=config.delta,
        n=config.n,
        extractor=config.extractor,
        budget_seconds=config.budget_seconds,
        resolved={},
    )
    places = Places(data=data.path, out=out, cache=out / "cache", compute=compute.settings())
    row = bench.run_one(configuration, places, told=context.log.info)
    figures = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return dg.MaterializeResult(
        value=row["trial"],
        metadata={"notice": NOTICE, **figures},
        data_version=dg.DataVersion(row["trial"]),
    )
