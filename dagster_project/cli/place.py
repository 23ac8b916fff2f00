"""Locations a command works on: the folder with population.yaml, and the data folder."""

from __future__ import annotations

import argparse
import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.data.blanks import BLANK, blanks, unfilled

if TYPE_CHECKING:
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.population import Population
    from dagster_project.pipeline.request import ReleaseRequest


def root_of(options: argparse.Namespace) -> Path:
    """Return the folder that holds population.yaml, without following links in its path."""
    root = Path(os.path.abspath(options.root))
    if (root / "population.yaml").is_file():
        return root
    raise FileNotFoundError(
        f"there is no population.yaml in {root}; it names the people, their lifetime cap and the "
        "ledger (`dptabimage init` drafts it, and --root names another folder)"
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
        settings=settings_of(options),
        preset=options.preset,
        people=options.people,
        allow_delta=options.allow_delta,
    )


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the changed settings of a request by dotted name."""
    settings = dict(options.settings)
    if options.minimum_people is not None:
        settings["minimum_people"] = options.minimum_people
    if options.train_minutes is not None:
        from dagster_project.cli.training_time import most_steps

        settings["dp_sgd.most_steps"] = most_steps(
            options, settings, root=root_of(options), data=data_of(options)
        )
    return settings


def require_filled(options: argparse.Namespace) -> None:
    """Refuse every command while a draft of `dptabimage init` has a blank, naming all of them.

    Raises:
        ValueError: population.yaml or schema.yaml has one.
    """
    files = [getattr(options, "root", None), getattr(options, "data", None)]
    names = ("population.yaml", "schema.yaml")
    found: dict[str, list[str]] = {}
    for folder, name in zip(files, names, strict=True):
        if folder is not None and (folder / name).is_file():
            found[name] = _blanks(folder / name)
    if any(found.values()):
        raise ValueError(unfilled(found))


def _blanks(file: Path) -> list[str]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        return blanks(yaml.safe_load(text)) if BLANK in text else []
    except (OSError, ValueError, yaml.YAMLError):
        return []  # the command itself says what is wrong with the file


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


@contextmanager
def pricing_ledger(root: Path) -> Iterator[tuple[Ledger, Population, bool]]:
    """Give a ledger to price plans with, its population, and whether it is the real one.

    A population that has no ledger yet gets an empty one in a temporary folder, which is deleted:
    a price must not create the ledger that a release will be charged to.
    """
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.population import Population

    population = Population.load(root / "population.yaml")
    real = population.anchor is not None or population.key_path.exists()
    with tempfile.TemporaryDirectory() as scratch:
        if not real:
            population = replace(
                population,
                path=Path(scratch) / population.path.name,
                ledger="ledger.sqlite",
                identity_key="identity.key",
            )
        ledger = Ledger.open(population)
        try:
            yield ledger, population, real
        finally:
            ledger.close()


def ensure_account() -> None:
    """Name a home and a user where the system has none for this process, as in `docker run -u`.

    Libraries below Dagster and MLflow look both up and fail without them.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid-{os.getuid()}"
