"""`plan --explore`: what several values of epsilon would give and cost, before spending."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from dagster_project.cli.place import data_of, open_ledger, root_of

if TYPE_CHECKING:
    from pathlib import Path

    from dagster_project.ledger import CohortStatus
    from dagster_project.ledger.population import Population


def explore(options: argparse.Namespace) -> int:
    """Print the comparison or write it as a page. Reads no record, writes no ledger."""
    from dagster_project.data.schema import Schema
    from dagster_project.ledger.population import Population
    from dagster_project.planning import exploration
    from dagster_project.settings.presets import preset

    root, folder = root_of(options), data_of(options)
    schema, population = (
        Schema.from_file(folder / "schema.yaml"),
        Population.load(root / "population.yaml"),
    )
    cohorts = _cohorts(root, population, options.people)
    n_public = cohorts[0].n_public if options.people != "all" else schema.n_public
    outlooks = exploration.explore(
        schema,
        population,
        preset(options.preset).changed(dict(options.settings)),
        delta=options.delta,
        spent=max((cohort.spent for cohort in cohorts), default=0.0),
        n_public=n_public,
    )
    if options.html is not None:
        page = exploration.as_html(
            outlooks, name=schema.name, n_public=n_public, delta=options.delta
        )
        options.html.write_text(page, encoding="utf-8")
    told = exploration.conclusion(outlooks)
    if options.json:
        content = {
            "conclusion": told,
            "delta": options.delta,
            "n_public": n_public,
            "outlooks": [one.to_json() for one in outlooks],
        }
        print(json.dumps(content, indent=1))
    elif options.html is not None:
        print(f"{told} ({options.html})")
    else:
        print(exploration.as_text(outlooks))
    return 0


def _cohorts(root: Path, population: Population, people: str) -> list[CohortStatus]:
    """Return the accounts of the cohorts that would pay; none while there is no ledger."""
    if people == "all" and population.anchor is None and not population.key_path.exists():
        return []
    ledger = open_ledger(root)
    try:
        return ledger.cohorts() if people == "all" else [ledger.cohort(people)]
    finally:
        ledger.close()
