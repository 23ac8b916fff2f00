"""`plan --explore`: what several values of epsilon would give and cost, before spending."""

from __future__ import annotations

import argparse
import json

from dagster_project.cli.place import data_of, pricing_ledger, root_of, settings_of


def explore(options: argparse.Namespace) -> int:
    """Print the comparison or write it as a page. Reads no record, writes no ledger."""
    from dagster_project.data.schema import Schema
    from dagster_project.pipeline import beforehand
    from dagster_project.planning import exploration
    from dagster_project.settings.presets import preset

    schema = Schema.from_file(data_of(options) / "schema.yaml")
    with pricing_ledger(root_of(options)) as (ledger, population, _):
        cohorts = ledger.cohorts()
        beforehand.require_numbers(schema, population, cohorts, options.people)
        if options.people != "all":
            cohorts = [ledger.cohort(options.people)]
    n_public = schema.n_public if options.people == "all" else cohorts[0].n_public
    outlooks = exploration.explore(
        schema,
        population,
        preset(options.preset).changed(settings_of(options)),
        delta=options.delta,
        spent=max(cohort.spent for cohort in cohorts),
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
