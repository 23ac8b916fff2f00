"""Command for data stewards that spends nothing: price a plan."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from dagster_project.cli.place import data_of, pricing_ledger, request_of, root_of

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.population import Population


def plan(options: argparse.Namespace) -> int:
    """Print the plan's mechanisms, epsilon and price; reads no record, reserves nothing."""
    if options.explore or options.html:
        from dagster_project.cli.exploring import explore

        return explore(options)
    from dagster_project.data.versions import data_version
    from dagster_project.pipeline import beforehand
    from dagster_project.pipeline.request import price_of, schema_of
    from dagster_project.planning.costs import mechanism_rows
    from dagster_project.privacy.accounting import true_positive_rates
    from dagster_project.settings.recipe import Recipe
    from dagster_project.table.aim import most_memory
    from dagster_project.table.measurements import table_sizes

    root, folder = root_of(options), data_of(options)
    schema = schema_of(folder)
    with pricing_ledger(root) as (ledger, population, real):
        beforehand.require_numbers(schema, population, ledger.cohorts(), options.people)
        people = None if options.people == "all" else ledger.cohort(options.people)
        beforehand.require_people(people.n_public if people else schema.n_public, folder)
        version = data_version(folder).text
        if options.modes:
            return _modes(options, schema, population, ledger, version)
        priced = price_of(request_of(options), schema, population, ledger, data_version=version)
        keyed_version = population.keyed_version(version)
    solved, price, verdict = priced.plan, priced.price, priced.verdict
    recipe = Recipe.restored(solved.recipe)
    memory = most_memory(table_sizes(schema, recipe), recipe.table)
    (power,) = true_positive_rates(solved.events, [0.01], discretization=solved.discretization)
    if options.json:
        shown = solved.to_json()
        if not schema.public:
            shown["data_version"] = keyed_version
        if not real:
            shown["release_id"] = shown["data_version"] = None  # its key is not made yet
        content = {
            "plan": shown,
            "price": asdict(price),
            "pictures": verdict.to_json(),
            "true_positives_at_1_percent_false_positives": power,
            "table_model_most_bytes": memory,
        }
        print(json.dumps(content, indent=1))
    else:
        print(f"release   {solved.release_id if real else 'named when the ledger exists'}")
        print(f"epsilon   {solved.epsilon:.4f} at delta {solved.target_delta:g}")
        most = math.ceil(power * 1e4) / 1e4
        print(f"attacker  at most {100 * most:.2f} % true positives at 1 % false positives")
        for row in mechanism_rows(solved):
            print(f"  {row['mechanism']:24} {row['epsilon alone']:8.4f}   {row['event']}")
        print(f"table     its model takes at most {memory / 1e6:.0f} MB of memory")
        print(f"pictures  {verdict}: {verdict.reason}")
        print(price)
        if price.advice:
            print(price.advice)
    if not price.fits:
        print(f"dptabimage: {price}", file=sys.stderr)
    return 0 if price.fits else 3


def _modes(
    options: argparse.Namespace,
    schema: Schema,
    population: Population,
    ledger: Ledger,
    version: str,
) -> int:
    """Print the prices of reuse, of a release on only the new people, and of a refresh.

    They are those of the request, or without one of the newest release's.
    """
    from dagster_project.pipeline import proposal

    asked = request_of(options)
    # With nothing asked for, what the sensor proposes: the newest release's recipe.
    request = proposal.usual_request(ledger) if asked == proposal.ReleaseRequest() else asked
    modes = proposal.propose(schema, population, ledger, request, data_version=version)
    print(
        json.dumps(proposal.as_json(modes), indent=1) if options.json else proposal.as_text(modes)
    )
    return 0
