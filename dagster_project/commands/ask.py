"""For the auditor: what was spent, by which release, from which version of the data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dagster_project.commands.place import open_ledger, root_of
from dagster_project.privacy import lineage as chains
from dagster_project.privacy.population import Population


def lineage(options: argparse.Namespace) -> int:
    """The whole chain of a released file, bundle or release id."""
    from dagster_project.release import manifest

    target = options.target
    if Path(target).is_dir() and (Path(target) / manifest.NAME).is_file():
        target = manifest.read(target)["release_id"]
    ledger = open_ledger(root_of(options))
    try:
        chain = chains.trace(ledger, Path(target) if Path(target).is_file() else target)
    finally:
        ledger.close()
    if options.json:
        shown = chains.public_view(chain) if options.public else chain
        print(json.dumps(shown, indent=1))
    else:
        print(chains.render_text(chain, public=options.public))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Hashes and epsilon of a bundle, from the bundle alone."""
    from dagster_project.release import manifest

    found = manifest.verify(options.bundle)
    print(
        f"{found.release_id}: {found.files} files unaltered; the recorded events compose to "
        f"epsilon {found.epsilon:.6f} at delta {found.delta:g}"
    )
    return 0


def ledger(options: argparse.Namespace) -> int:
    """The account of each cohort and every release, or a check of the chain."""
    root = root_of(options)
    opened = open_ledger(root)
    try:
        if options.action == "anchor":
            head = opened.anchor()
            Population.load(root / "population.yaml").write_anchor(head)
            print(f"population.yaml names entry {head.entries}, {head.head}: commit it")
        elif options.action == "verify":
            head = opened.verify(reprice=True)
            print(f"{head.entries} entries, chain and prices verified, head {head.head}")
        elif options.json:
            rows = {
                "blocks": [vars(block) for block in opened.blocks()],
                "timeline": chains.timeline(opened),
                "head": opened.head,
            }
            print(json.dumps(rows, indent=1, default=str))
        else:
            _show(opened)
    finally:
        opened.close()
    return 0


def _show(opened) -> None:  # type: ignore[no-untyped-def]
    for block in opened.blocks():
        print(
            f"cohort {block.name}: lifetime epsilon {block.epsilon:.3f} "
            f"of {block.lifetime_epsilon:g} spent"
        )
    for release in opened.releases().values():
        epsilon = release.plan["composed_epsilon"]
        print(
            f"  {release.at}  {release.release_id:32} epsilon {epsilon:.3f}  "
            f"{release.status:9} by {release.approved_by}"
        )
    print(f"{len(opened.entries())} entries, head {opened.head}")
