"""Three ways to release again when the data has changed, each with its price. Spends nothing.

Reuse draws from the models of an earlier release and adds nothing. A release on the new people
only costs nobody else. A refresh is charged to everybody. A person decides between them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from shlex import quote
from typing import Any

from dagster_project.data.schema import Schema
from dagster_project.ledger import CohortStatus, Ledger
from dagster_project.ledger.population import Population
from dagster_project.ledger.records import ReleaseRecord
from dagster_project.pipeline.privacy_plan import solve
from dagster_project.settings.presets import DEFAULT, preset


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One way to release again.

    Attributes:
        name: "reuse", "new people only" or "refresh".
        meaning: What it does.
        price: What it costs whom, in words.
        fits: Whether the lifetime budget allows it; None if there is nothing to price yet.
        command: The command that launches it.
    """

    name: str
    meaning: str
    price: str
    fits: bool | None
    command: str


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """A request for a release; `settings` are changes to the preset by dotted name."""

    name: str
    epsilon: float
    delta: float
    settings: Mapping[str, Any]
    preset: str = DEFAULT
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


def latest(ledger: Ledger) -> ReleaseRecord | None:
    """Return the newest complete release, or None."""
    done = [item for item in ledger.releases().values() if item.status == "COMMITTED"]
    return done[-1] if done else None


def propose(
    schema: Schema,
    population: Population,
    ledger: Ledger,
    request: ReleaseRequest,
    *,
    data_version: str,
) -> tuple[Mode, ...]:
    """Return the three modes with their prices. Reads no record and writes nothing.

    Raises:
        ValueError: If no plan can be solved; the message says why in one sentence.
    """

    def priced(people: CohortStatus | None) -> tuple[str, bool]:
        plan = solve(
            schema,
            population,
            name=request.name,
            epsilon=request.epsilon,
            delta=request.delta,
            settings=request.settings,
            preset_name=request.preset,
            data_version=data_version,
            people=people,
            second_opinion=False,
        )
        price = ledger.price(plan, schema_public=schema.public, allow_delta=request.allow_delta)
        return str(price), price.fits

    asked = request.options
    refresh, fits = priced(None)
    return (
        _reuse(latest(ledger), ledger.cohorts()),
        _new_people(ledger.cohorts(), priced, asked),
        Mode(
            name="refresh",
            meaning="a release on all of the data, charged to everybody",
            price=refresh,
            fits=fits,
            command=f"dptabimage release {asked}",
        ),
    )


def _reuse(release: ReleaseRecord | None, cohorts: list[CohortStatus]) -> Mode:
    name = release.release_id if release is not None else "an earlier release"
    stays = "; ".join(f"cohort {cohort.name!r} stays at {cohort}" for cohort in cohorts)
    return Mode(
        name="reuse",
        meaning=f"more pairs from the models of {name}, which describe the data of that time",
        price=f"adds 0: {stays}" if release is not None else "nothing has been released yet",
        fits=True if release is not None else None,
        command=f"dptabimage sample {name} --seed 2" if release is not None else "",
    )


def _new_people(cohorts: list[CohortStatus], priced: Any, asked: str) -> Mode:
    meaning = "a release on only the people of the newest cohort, at no cost to everybody else"
    if len(cohorts) == 1:
        return Mode(
            name="new people only",
            meaning=meaning,
            price="no cohort has been opened for them; a steward must declare their rough number",
            fits=None,
            command="dptabimage ledger add-cohort NAME --n-public NUMBER --approved-by WHO",
        )
    price, fits = priced(cohorts[-1])
    return Mode(
        name="new people only",
        meaning=meaning,
        price=price,
        fits=fits,
        command=f"dptabimage release --people {cohorts[-1].name} {asked}",
    )


def as_text(modes: tuple[Mode, ...]) -> str:
    """Format the modes for a terminal or a Markdown file."""
    lines = []
    for mode in modes:
        lines += [f"- **{mode.name}**: {mode.meaning}", f"  - {mode.price}"]
        lines += [f"  - `{mode.command}`"] if mode.command else []
    return "\n".join(lines)


def as_json(modes: tuple[Mode, ...]) -> list[dict[str, Any]]:
    """Return the modes as plain JSON."""
    return [asdict(mode) for mode in modes]
