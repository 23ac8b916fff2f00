"""Ledger commands: show, person, verify, anchor, export, void, add-cohort."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.cli.place import open_ledger, root_of

if TYPE_CHECKING:
    from dagster_project.ledger.records import ReleaseRecord


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions; the default is to show the ledger."""
    parser.set_defaults(command=show)
    parser.add_argument("--json", action="store_true")
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
    for name, command, text in (
        ("show", show, "show what each cohort has spent, and every release"),
        ("person", person, "show which releases a person has paid for (private output)"),
        ("verify", verify, "check every hash, rule and price"),
        ("anchor", anchor, "record the head of the ledger in population.yaml"),
        ("export", export, "print the whole chain as JSON lines, for auditors"),
        ("void", void, "refund a reservation that was never opened"),
        ("add-cohort", add_cohort, "open a cohort for people not seen so far"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.set_defaults(command=command)
        # Suppressed: an action's default would override an option given before the action.
        action.add_argument("--root", type=Path, default=argparse.SUPPRESS)
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
        if command is verify:
            action.add_argument(
                "--file", type=Path, help="verify an exported chain instead of the database"
            )
        elif command is person:
            action.add_argument("id", help="the person's id, as the data spell it")
        elif command is void:
            action.add_argument("release", help="release id")
        elif command is add_cohort:
            action.add_argument("name")
            text = "approximate number of people in the cohort, which is public"
            action.add_argument("--n-public", type=int, required=True, help=text)
            action.add_argument("--approved-by", required=True, metavar="WHO")


def show(options: argparse.Namespace) -> int:
    """Print the account of each cohort and every release."""
    from dagster_project.ledger import lineage as chains

    root = root_of(options)
    opened = open_ledger(root)
    try:
        cohorts, head = opened.cohorts(), opened.anchor()
        cap = cohorts[0].cap
        releases = [_described(root, one, cap) for one in opened.releases().values()]
        rows = chains.timeline(opened)
    finally:
        opened.close()
    if options.json:
        account = {
            "cohorts": [vars(cohort) for cohort in cohorts],
            "releases": releases,
            "timeline": rows,
            "head": head.head,
        }
        print(json.dumps(account, indent=1))
        return 0
    for cohort in cohorts:
        print(f"cohort {cohort.name}: {cohort}")
    for release in releases:
        print(_line(release))
    print(f"{head.entries:,} entries, head {head.head}")
    return 0


def person(options: argparse.Namespace) -> int:
    """Print which releases a person has paid for. The output is private."""
    from dagster_project.ledger.person import account_of

    root = root_of(options)
    opened = open_ledger(root)
    try:
        found, cap = account_of(opened, options.id), opened.cohorts()[0].cap
    finally:
        opened.close()
    releases = [_described(root, release, cap) for release in found.releases]
    if options.json:
        account = vars(found.account) if found.account is not None else None
        shown = {"cohort": found.cohort, "account": account, "releases": releases}
        print(json.dumps(shown, indent=1))
        return 0
    print("PRIVATE: the output below shows whether a person is in the data.", file=sys.stderr)
    print(found)
    for release in releases:
        print(_line(release))
    return 0


def _described(root: Path, release: ReleaseRecord, cap: float) -> dict[str, Any]:
    """Return a release as plain JSON, with the shares of the cap that it paid.

    The version of the data appears under its keyed name, as in Dagster, because the version itself
    would confirm a guess of the data.
    """
    from dagster_project.ledger.population import Population

    population = Population.load(root / "population.yaml")
    return {
        "release_id": release.release_id,
        "at": release.at,
        "status": release.status,
        "epsilon": release.plan["composed_epsilon"],
        "delta": release.plan["target_delta"],
        "shares": {name: cost / cap for name, cost in release.paid.items()},
        "data_version": population.keyed_version(release.plan["data_version"]),
        "approved_by": release.approved_by,
    }


def _line(release: Mapping[str, Any]) -> str:
    from dagster_project.ledger.gdp_filter import percent

    paid = ", ".join(f"{percent(share)} of {name}" for name, share in release["shares"].items())
    planned = " planned" * (release["status"] in ("STOPPED", "VOID"))
    return (
        f"  {release['at']}  {release['release_id']:32} epsilon {release['epsilon']:.3f}{planned}  "
        f"{release['status']:9} {paid}  data {release['data_version'][:12]}  "
        f"by {release['approved_by']}"
    )


def verify(options: argparse.Namespace) -> int:
    """Verify the stored chain, or an exported one."""
    from dagster_project.ledger.export import verify_lines
    from dagster_project.ledger.population import Population

    if options.file is not None:
        file = options.root / "population.yaml"
        population = Population.load(file) if file.is_file() else None
        with options.file.open(encoding="utf-8") as lines:
            head = verify_lines(lines, population).head
        what = f"{options.file.name}: chain and prices"
    else:
        opened = open_ledger(root_of(options))
        try:
            head = opened.verify(reprice=True)
        finally:
            opened.close()
        what = "chain, members and prices"
    found = {"verified": what, **head.to_json()}
    text = f"{head.entries:,} entries, {what} verified, head {head.head}"
    print(json.dumps(found) if options.json else text)
    return 0


def anchor(options: argparse.Namespace) -> int:
    """Record the head of the ledger in population.yaml."""
    from dagster_project.ledger.population import Population

    root = root_of(options)
    opened = open_ledger(root)
    try:
        head = opened.anchor()
    finally:
        opened.close()
    Population.load(root / "population.yaml").write_anchor(head)
    print(f"population.yaml now names entry {head.entries:,}, {head.head}; commit it")
    return 0


def export(options: argparse.Namespace) -> int:
    """Print the chain, which names data versions and approvers and is meant for auditors."""
    from dagster_project.ledger.export import export_lines

    opened = open_ledger(root_of(options))
    try:
        for line in export_lines(opened.entries()):
            print(line)
    finally:
        opened.close()
    return 0


def void(options: argparse.Namespace) -> int:
    """Refund an abandoned reservation."""
    opened = open_ledger(root_of(options))
    try:
        opened.void(options.release)
        charges = opened.release(options.release).charges
    finally:
        opened.close()
    print(f"release {options.release} is void; its charge is refunded to {', '.join(charges)}")
    return 0


def add_cohort(options: argparse.Namespace) -> int:
    """Open a cohort."""
    opened = open_ledger(root_of(options))
    try:
        opened.add_cohort(options.name, n_public=options.n_public, approved_by=options.approved_by)
    finally:
        opened.close()
    print(
        f"cohort {options.name} is open for people not seen so far: "
        f"`dptabimage release --people {options.name}` charges only them"
    )
    return 0
