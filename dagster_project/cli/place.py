"""Where a command works: the folder with population.yaml, and the data inside or beside it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from dagster_project.ledger import Ledger
from dagster_project.ledger.errors import LedgerMissing
from dagster_project.ledger.population import Population


def root_of(options: argparse.Namespace) -> Path:
    """The folder that holds population.yaml, without following links in the data's path."""
    root = Path(os.path.abspath(options.root))
    if (root / "population.yaml").is_file():
        return root
    raise FileNotFoundError(
        f"there is no population.yaml in {root}: it names the people, their lifetime cap and the "
        "ledger (copy the example's beside your data and change it)"
    )


def data_of(options: argparse.Namespace) -> Path:
    """The data folder. Raises ValueError for `..` in its path."""
    if ".." in options.data.parts:
        raise ValueError("the path of the data folder must not contain '..'")
    return Path(os.path.abspath(options.data))


def open_ledger(root: Path) -> Ledger:
    """The population's ledger for reading; a population that has none yet is refused.

    Raises:
        LedgerMissing: Nothing has been spent or reserved yet.
    """
    population = Population.load(root / "population.yaml")
    if population.anchor is None and not population.key_path.exists():
        raise LedgerMissing(f"population {population.name!r} has no ledger yet")
    return Ledger.open(population)
