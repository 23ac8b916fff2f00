"""Commands for auditors: what was spent, by which release, from which version of the data."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path

from dagster_project.cli.place import open_ledger, root_of


def lineage(options: argparse.Namespace) -> int:
    """Print the whole chain of a released file, bundle or release id."""
    from dagster_project.ledger import lineage as chains
    from dagster_project.ledger.population import Population
    from dagster_project.release import manifest

    target = options.target
    if Path(target).is_dir() and (Path(target) / manifest.NAME).is_file():
        target = manifest.read(target)["release_id"]
    root = root_of(options)
    ledger, key = open_ledger(root), Population.load(root / "population.yaml").member_key()
    try:
        chain = chains.trace(ledger, Path(target) if Path(target).is_file() else target, key=key)
        rows = chains.timeline(ledger) if options.html else []
    finally:
        ledger.close()
    if options.html:
        from dagster_project.ledger.lineage_page import render_html

        page = render_html(chain, rows, public=options.public)
        options.html.write_text(page, encoding="utf-8")
        print(f"lineage of {chain['target']} in {options.html}")
    elif options.json:
        shown = chains.public_view(chain) if options.public else chain
        print(json.dumps(shown, indent=1))
    else:
        print(chains.render_text(chain, public=options.public))
    return 0


def verify(options: argparse.Namespace) -> int:
    """Verify a bundle by itself, and against the ledger of its population if that is here."""
    from dagster_project.release import verification

    found = verification.verify(options.bundle)
    power = math.ceil(found.true_positives[0.01] * 1e4) / 1e4
    print(
        f"{found.release_id}: {found.files:,} files unaltered; the recorded events compose to "
        f"epsilon {found.epsilon:.6f} at delta {found.delta:g}; a test of membership with 1 % "
        f"false positives has at most {100 * power:.2f} % true positives; the card says what "
        "the manifest says"
    )
    root = _root_of_ledger(options, found.population)
    if root is None:
        print(
            f"not compared with a ledger: there is none of population {found.population!r} here "
            "(--root names its folder)"
        )
        return 0
    ledger = open_ledger(root)
    try:
        entry = verification.require_charged(options.bundle, ledger)
    finally:
        ledger.close()
    print(f"the ledger agrees: this guarantee was charged, and entry {entry} committed these files")
    return 0


def _root_of_ledger(options: argparse.Namespace, population: str) -> Path | None:
    """Return the folder of the ledger: the one asked for, that of the project in whose `releases`
    the bundle lies, whatever population its manifest claims, or that of the population here."""
    from dagster_project.ledger.population import Population

    if options.root is not None:
        return root_of(options)
    bundle = Path(os.path.abspath(options.bundle))
    for folder in (bundle.parent.parent, Path.cwd()):
        if (folder / "population.yaml").is_file():
            known = Population.load(folder / "population.yaml")
            used = known.anchor is not None or known.key_path.exists()
            claimed = known.name == population
            if used and (claimed or folder / "releases" == bundle.parent):
                return folder
    return None
