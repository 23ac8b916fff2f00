"""The plan, solved and reserved before any private byte is read."""

from typing import Any

import dagster as dg
from pydantic import Field

from dagster_project.orchestration.resources import (
    BudgetLedger,
    ComputeResource,
    DataSet,
    ReleaseStore,
)
from dagster_project.pipeline.order import RELEASED
from dagster_project.planning.provenance import code_version, git_facts, lock_hash
from dagster_project.settings.presets import DEFAULT, PRESETS


class PlanConfig(dg.Config):
    """The user's request."""

    name: str = Field("release", description="Prefix of the release id.")
    epsilon: float = Field(3.0, description="Joint epsilon of the release.")
    delta: float = Field(1e-6, description="Delta of the release; at most 1 / (10 n_public).")
    preset: str = Field(DEFAULT, description=f"Recipe: {', '.join(PRESETS)}.")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description='Changes to the recipe, such as {"dp_sgd.steps": 100}.',
    )
    people: str = Field(
        "all", description="Cohort that is read and charged; nobody outside it is charged."
    )
    allow_delta: bool = Field(
        False, description="Accept a larger delta on public data; recorded in the ledger."
    )


@dg.asset(
    group_name="public",
    tags={"zone": "public"},
    kinds={"python"},
    code_version=code_version(*RELEASED, "dagster_project.pipeline.privacy_plan"),
    io_manager_key="release_id",
    check_specs=[
        dg.AssetCheckSpec(
            "within_budget",
            asset="privacy_plan",
            blocking=True,
            description="The plan fits the lifetime budget of everybody it touches.",
        )
    ],
)
def privacy_plan(
    dataset: str,
    config: PlanConfig,
    data: DataSet,
    budget: BudgetLedger,
    store: ReleaseStore,
    compute: ComputeResource,
):  # type: ignore[no-untyped-def]  # Dagster takes no annotation with a check
    """Solve every sigma from epsilon and delta by the joint composition of all mechanisms, price
    the plan and reserve it in the ledger. Refuses a plan that does not fit; reads no record."""
    from dagster_project.pipeline import beforehand
    from dagster_project.pipeline.privacy_plan import solve

    ledger, population, schema = budget.open(), budget.population(), data.schema()
    try:
        compute.settings().require_device()
        beforehand.require_numbers(schema, population, ledger.cohorts(), config.people)
        people = None if config.people == "all" else ledger.cohort(config.people)
        beforehand.require_people(people.n_public if people else schema.n_public, data.path)
        version = data.version().text
        if population.keyed_version(version) != dataset:
            raise dg.Failure(
                "the data has changed since `dataset` was materialised: materialise both",
                allow_retries=False,
            )
        plan = solve(
            schema,
            population,
            name=config.name,
            epsilon=config.epsilon,
            delta=config.delta,
            settings=config.settings,
            preset_name=config.preset,
            data_version=version,
            people=people,
        )
        price = ledger.price(plan, schema_public=schema.public, allow_delta=config.allow_delta)
        if price.fits:
            ledger.reserve(
                plan,
                approved_by=budget.approver(),
                schema_public=schema.public,
                allow_delta=config.allow_delta,
            )
            store.prepare(plan, schema, ledger)
            ledger.attach(plan.release_id, lock_hash=lock_hash(), **git_facts())
            budget.anchor(ledger, public=schema.public)
    finally:
        ledger.close()
    return dg.MaterializeResult(
        value=plan.release_id,
        metadata={
            "release": plan.release_id,
            "epsilon": plan.epsilon,
            "delta": plan.target_delta,
            "epsilon of the Gaussian events by PRV": plan.epsilon_prv or "not available",
            "mechanisms": dg.MetadataValue.md(_table(plan)),
            "price": str(price),
            "share of the lifetime budget used afterwards": price.share_after,
            "releases at epsilon 1 that fit afterwards": price.releases_left,
        },
        # The id contains a keyed hash of everything that determines the plan; the plan's own hash
        # would confirm a guess.
        data_version=dg.DataVersion(plan.release_id),
        check_results=[
            dg.AssetCheckResult(
                check_name="within_budget", passed=price.fits, description=str(price)
            )
        ],
    )


def _table(plan: Any) -> str:
    from dagster_project.planning.costs import mechanism_rows

    rows = ["| mechanism | event | epsilon alone |", "|---|---|---|"]
    for row in mechanism_rows(plan):
        rows.append(f"| {row['mechanism']} | {row['event']} | {row['epsilon alone']:.4f} |")
    return "\n".join(rows)
