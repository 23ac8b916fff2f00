"""The question that `release` asks on a terminal before it spends."""

from __future__ import annotations

import argparse
import sys

from dagster_project.cli.place import data_of, pricing_ledger, request_of, root_of


def confirmed(options: argparse.Namespace) -> bool:
    """Show the price and ask, unless nobody sits at a terminal or `--yes` was given.

    A release that is reserved already, such as one that resumes after a crash, is not asked about
    again, and one that does not fit is left to the graph to refuse.
    """
    if options.yes or not sys.stdin.isatty():
        return True
    from dagster_project.data.versions import data_version
    from dagster_project.pipeline.request import price_of, schema_of

    folder = data_of(options)
    schema = schema_of(folder)
    with pricing_ledger(root_of(options)) as (ledger, population, _):
        version = data_version(folder).text
        priced = price_of(request_of(options), schema, population, ledger, data_version=version)
        known = priced.plan.release_id in ledger.releases()
    if known or not priced.price.fits:
        return True
    print(priced.price, file=sys.stderr)
    print(f"{priced.verdict}: {priced.verdict.reason}", file=sys.stderr)
    print("This cannot be taken back. Spend it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
