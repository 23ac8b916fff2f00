"""Command that purges private zones."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from dagster_project.cli.place import open_ledger, root_of


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `private`."""
    parser.add_argument("action", choices=("purge",))
    parser.add_argument("release", nargs="?", help="release id")
    parser.add_argument(
        "--older-than",
        type=float,
        metavar="DAYS",
        help="purge every release reserved more than DAYS days ago "
        "(default: retention_days of population.yaml)",
    )
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(command=purge)


def purge(options: argparse.Namespace) -> int:
    """Delete private zones and print what remains."""
    from dagster_project.ledger import retention
    from dagster_project.ledger.population import Population

    root = root_of(options)
    days = options.older_than
    if days is None:
        days = Population.load(root / "population.yaml").retention_days
    if options.release is not None and options.older_than is not None:
        raise ValueError("name a release or give --older-than, not both")
    if options.release is None and (days is None or not days >= 0):
        raise ValueError(
            "name a release or give --older-than DAYS; population.yaml has no retention_days"
        )
    ledger = open_ledger(root)
    try:
        if options.release is not None:
            names, errors = [options.release], 0
        else:
            names = retention.expired(ledger, root, days=days)
            errors = retention.purge_errors(root, days=days)
        done = [retention.purge(ledger, root, name) for name in names]
    finally:
        ledger.close()
    if options.json:
        print(json.dumps({"releases": [asdict(one) for one in done], "errors": errors}, indent=1))
        return 0
    for one in done:
        print(f"private/{one.release_id}: files deleted: {one.files}. Remaining:")
        print("\n".join(f"  {line}" for line in one.remains))
    if errors:
        print(f"private/errors: files deleted: {errors}")
    if not done and not errors:
        print("nothing is old enough to be deleted")
    return 0
