"""A request for a release, solved and priced. Reads no record, reserves nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from dagster_project.data.layout import column_faults
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger, Price
from dagster_project.ledger.population import Population
from dagster_project.ledger.records import ReleaseRecord
from dagster_project.pipeline.privacy_plan import solve
from dagster_project.privacy.plan import Plan
from dagster_project.release.verdict import Verdict, judge
from dagster_project.settings.presets import DEFAULT, preset


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """A request for a release.

    Attributes:
        name: Prefix of the release's id.
        settings: Changes to the preset by dotted name.
        people: The cohort that is read and charged, or "all".
        allow_delta: Accept a larger delta on public data.
    """

    name: str = "release"
    epsilon: float = 3.0
    delta: float = 1e-6
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = DEFAULT
    people: str = "all"
    allow_delta: bool = False

    @classmethod
    def like(cls, release: ReleaseRecord) -> ReleaseRequest:
        """Return the request of an earlier release, with settings that differ from the default."""
        plan, default = release.plan, _flat(preset(DEFAULT).model_dump(mode="json"))
        settings = {
            key: value
            for key, value in _flat(plan["recipe"]).items()
            if key not in default or default[key] != value
        }
        name = release.release_id.rpartition("-")[0] or release.release_id
        epsilon, delta = plan["target_epsilon"], plan["target_delta"]
        excepted = release.delta_exception
        return cls(name=name, epsilon=epsilon, delta=delta, settings=settings, allow_delta=excepted)

    @property
    def options(self) -> str:
        """The request as command-line options."""
        changes = [f"--set {quote(f'{k}={json.dumps(v)}')}" for k, v in self.settings.items()]
        asked = f"--epsilon {self.epsilon:g} --delta {self.delta:g} --name {self.name}"
        if self.preset != DEFAULT:
            asked += f" --preset {self.preset}"
        if self.allow_delta:
            asked += " --allow-delta"
        return " ".join([asked, *changes])


def _flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by dotted name."""
    flat: dict[str, Any] = {}
    for name, content in recipe.items():
        if isinstance(content, Mapping):
            flat |= {f"{name}.{field}": value for field, value in content.items()}
        else:
            flat[name] = content
    return flat


@dataclass(frozen=True, kw_only=True)
class Priced:
    """A solved plan with its price and a verdict on its pictures."""

    plan: Plan
    price: Price
    verdict: Verdict


def schema_of(folder: Path) -> Schema:
    """Return the public contract of a data folder whose columns agree with it.

    Raises:
        ValueError: If the schema or a file's columns are wrong.
    """
    schema = Schema.from_file(folder / "schema.yaml")
    if faults := column_faults(folder, schema):
        raise ValueError(" ".join(faults))
    return schema


def price_of(
    request: ReleaseRequest,
    schema: Schema,
    population: Population,
    ledger: Ledger,
    *,
    data_version: str,
) -> Priced:
    """Solve and price a request.

    Raises:
        ValueError: If no plan can be solved; the message says why in one sentence.
        LedgerError: If the ledger refuses the plan whatever its price.
    """
    plan = solve(
        schema,
        population,
        name=request.name,
        epsilon=request.epsilon,
        delta=request.delta,
        settings=request.settings,
        preset_name=request.preset,
        data_version=data_version,
        people=None if request.people == "all" else ledger.cohort(request.people),
        second_opinion=False,
    )
    return Priced(
        plan=plan,
        price=ledger.price(plan, schema_public=schema.public, allow_delta=request.allow_delta),
        verdict=judge(
            schema,
            n_public=plan.n_public,
            epsilon=plan.target_epsilon,
            settings=plan.recipe,
            mechanisms=[item.to_json() for item in plan.mechanisms],
        ),
    )
