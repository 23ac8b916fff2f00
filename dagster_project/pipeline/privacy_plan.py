"""Makes a plan for a population from a user's request. Reads no record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster_project.data.schema import Schema
from dagster_project.ledger import CohortStatus
from dagster_project.ledger.population import Population
from dagster_project.pipeline.order import release_code
from dagster_project.planning.planner import build_plan
from dagster_project.privacy.plan import Plan
from dagster_project.settings.presets import DEFAULT, preset


def solve(
    schema: Schema,
    population: Population,
    *,
    name: str,
    epsilon: float,
    delta: float,
    settings: Mapping[str, Any],
    data_version: str,
    preset_name: str = DEFAULT,
    people: CohortStatus | None = None,
    second_opinion: bool = True,
) -> Plan:
    """Solve the plan of a release. Its ledger must exist, because that makes the identity key.

    `settings` are changes to the preset's recipe by dotted name. `people` is the cohort whose
    records are read and who are charged, or None for everybody. Without a `second_opinion`, a plan
    that is only priced is solved in half the time.

    Raises:
        ValueError: If a setting is invalid or no plan can be solved; the message is one sentence.
    """
    recipe = preset(preset_name).changed(dict(settings))
    return build_plan(
        schema,
        recipe,
        name=name,
        target_epsilon=epsilon,
        target_delta=delta,
        population=population.name,
        data_version=data_version,
        code_version=release_code(),
        identity_key=population.member_key(),
        cohort=people.name if people is not None else "all",
        n_public=people.n_public if people is not None else None,
        second_opinion=second_opinion,
    )
