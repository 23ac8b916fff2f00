"""Three ways to release again when the data has changed, each with its price. Spends nothing.

Reuse draws from the models of an earlier release and adds nothing. A release on the new people
only costs nobody else. A refresh is charged to everybody. A person decides between them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from dagster_project.data.schema import Schema
from dagster_project.ledger import CohortStatus, Ledger
from dagster_project.ledger.population import Population
from dagster_project.ledger.records import ReleaseRecord
from dagster_project.pipeline.request import ReleaseRequest, price_of


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


def latest(ledger: Ledger) -> ReleaseRecord | None:
    """Return the newest complete release, or None."""
    done = [item for item in ledger.releases().values() if item.status == "COMMITTED"]
    return done[-1] if done else None


def usual_request(ledger: Ledger) -> ReleaseRequest:
    """Return the request that a proposal prices: that of the newest complete release, if any."""
    last = latest(ledger)
    return ReleaseRequest.like(last) if last is not None else ReleaseRequest()


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

    def priced(people: str) -> tuple[str, bool]:
        asked = replace(request, people=people)
        found = price_of(asked, schema, population, ledger, data_version=data_version)
        return str(found.price), found.price.fits

    asked = request.options
    refresh, fits = priced("all")
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
    price, fits = priced(cohorts[-1].name)
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
