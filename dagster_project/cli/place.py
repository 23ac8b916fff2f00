"""Locations a command works on: the folder with population.yaml, and the data folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.ledger import Ledger
    from dagster_project.pipeline.request import ReleaseRequest


def root_of(options: argparse.Namespace) -> Path:
    """Return the folder that holds population.yaml, without following links in its path."""
    root = Path(os.path.abspath(options.root))
    if (root / "population.yaml").is_file():
        return root
    raise FileNotFoundError(
        f"there is no population.yaml in {root}; it names the people, their lifetime cap and the "
        "ledger (copy the example's file next to your data and edit it)"
    )


def data_of(options: argparse.Namespace) -> Path:
    """Return the data folder. Raises ValueError for `..` in its path."""
    if ".." in options.data.parts:
        raise ValueError("the path of the data folder must not contain '..'")
    return Path(os.path.abspath(options.data))


def request_of(options: argparse.Namespace) -> ReleaseRequest:
    """Return the request that the options of `plan` and `release` spell."""
    from dagster_project.pipeline.request import ReleaseRequest

    return ReleaseRequest(
        name=options.name,
        epsilon=options.epsilon,
        delta=options.delta,
        settings=dict(options.settings),
        preset=options.preset,
        people=options.people,
        allow_delta=options.allow_delta,
    )


def open_ledger(root: Path) -> Ledger:
    """Open the population's ledger for reading.

    Raises:
        LedgerMissing: The population has no ledger yet: nothing has been spent or reserved.
    """
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.errors import LedgerMissing
    from dagster_project.ledger.population import Population

    population = Population.load(root / "population.yaml")
    if population.anchor is None and not population.key_path.exists():
        raise LedgerMissing(f"population {population.name!r} has no ledger yet")
    return Ledger.open(population)
