"""Refuses, before anything is spent, what is bound to fail by public numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dagster_project.data.persons import HELDOUT_SHARE, LEAST_ROWS
from dagster_project.data.schema import Schema
from dagster_project.ledger import CohortStatus
from dagster_project.ledger.population import Population

# The number of held-out people varies by chance: where 15 are expected, fewer than 10 are found in
# one of 16 data sets.
_LEAST_EXPECTED = 1.5 * LEAST_ROWS


def require_numbers(
    schema: Schema, population: Population, cohorts: Sequence[CohortStatus], people: str
) -> None:
    """Refuse public numbers and names of people that contradict each other.

    Args:
        schema: The public contract.
        population: Whose budget is spent.
        cohorts: The accounts of the population's ledger.
        people: The cohort that is charged, or "all".

    Raises:
        ValueError: The schema names another population, or its number is not that of the
            population, of all its cohorts together, or of the cohort that is charged.
    """
    if schema.population and schema.population != population.name:
        raise ValueError(
            f"schema.yaml belongs to the population {schema.population!r}, and population.yaml "
            f"describes {population.name!r}: their budget is not for these data"
        )
    allowed = {population.n_public, sum(cohort.n_public for cohort in cohorts)}
    allowed |= {cohort.n_public for cohort in cohorts if cohort.name == people}
    if schema.n_public not in allowed:
        raise ValueError(
            f"schema.yaml says n_public: {schema.n_public}, and population.yaml "
            f"{population.n_public}: the same people have one public number, so make them agree"
        )


def require_for_new_ledger(schema: Schema, population: Population) -> None:
    """Refuse a schema of other people before the population's first ledger fixes its numbers.

    Raises:
        ValueError: See `require_numbers`. Nothing is checked once there is a ledger.
    """
    if population.anchor is None and not population.key_path.exists():
        require_numbers(schema, population, (), "all")


def require_people(n_public: int, data_dir: Path) -> None:
    """Refuse a number of people of whom too few would be held out for the report.

    Raises:
        ValueError: Fewer than about 15 would be, and there is no heldout.parquet.
    """
    if (data_dir / "heldout.parquet").exists() or n_public * HELDOUT_SHARE >= _LEAST_EXPECTED:
        return
    share = f"{100 * HELDOUT_SHARE:.0f} %"
    raise ValueError(
        f"n_public: {n_public} is too few people: {share} of them are held out for the "
        f"report, which needs at least {LEAST_ROWS}; from {_LEAST_EXPECTED / HELDOUT_SHARE:.0f} "
        "people on, or with a heldout.parquet, there are enough"
    )
