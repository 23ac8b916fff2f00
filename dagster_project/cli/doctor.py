"""The command `doctor`: whether this machine and this folder can make a release, line by line."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from dagster_project.cli.place import data_of, open_ledger

_PYTHONS = ((3, 11), (3, 14))
_FREE = 2e9  # bytes; a release of the example takes a third of it
_SHOWN = ("torch", "numpy", "pandas", "pyarrow", "dagster", "mlflow", "dvc", "opacus", "mbi")


@dataclass(frozen=True)
class Finding:
    """One line of the answer: "ok", "note" (nothing is wrong yet) or "wrong"."""

    state: Literal["ok", "note", "wrong"]
    name: str
    text: str


def doctor(options: argparse.Namespace) -> int:
    """Print what was found. Reads no record, writes nothing; 2 if something is wrong."""
    checks: dict[str, Callable[[argparse.Namespace], Finding]] = {
        "python": _python,
        "packages": _packages,
        "device": _device,
        "disk": _disk,
        "account": _account,
        "population": _population,
        "ledger": _ledger,
        "data": _data,
    }
    found = [_safely(name, check, options) for name, check in checks.items()]
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            print(f"{one.state:5}  {one.name:10}  {one.text}")
    return 2 if any(one.state == "wrong" for one in found) else 0


def _safely(
    name: str, check: Callable[[argparse.Namespace], Finding], options: argparse.Namespace
) -> Finding:
    try:
        return check(options)
    except Exception as error:  # the next lines may say why
        return Finding("wrong", name, str(error) or type(error).__name__)


def _python(_: argparse.Namespace) -> Finding:
    low, high = _PYTHONS
    found = sys.version_info[:2]
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if low <= found < high:
        return Finding("ok", "python", text)
    return Finding("wrong", "python", f"{text}; it must be 3.{low[1]} to 3.{high[1] - 1}")


def _packages(_: argparse.Namespace) -> Finding:
    """Compare the installed packages with the lock, if the checkout has one."""
    lock = Path(__file__).parents[2] / "requirements.lock"
    shown = ", ".join(f"{name} {version(name)}" for name in _SHOWN)
    if not lock.is_file():
        return Finding("note", "packages", f"{shown}; there is no requirements.lock to compare")
    other = []
    for line in lock.read_text(encoding="utf-8").splitlines():
        name, equals, wanted = line.partition("==")
        if not equals or line.startswith("#"):
            continue
        try:
            found = version(name)
        except PackageNotFoundError:
            other.append(f"{name} is missing")
            continue
        if found != wanted:
            other.append(f"{name} is {found}, tested with {wanted}")
    if any(text.endswith("missing") for text in other):
        return Finding("wrong", "packages", "; ".join(other[:5]) + ": run `make setup`")
    if other:
        return Finding("note", "packages", "; ".join(other[:5]))
    return Finding("ok", "packages", f"{shown}; all as in requirements.lock")


def _device(_: argparse.Namespace) -> Finding:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{cores} CPU cores, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 1e9
        text = f"{torch.cuda.get_device_name(0)}, {memory:.0f} GB; {text}"
    else:
        text = f"no GPU that torch can use; {text}"
    return Finding("ok", "device", text)


def _disk(options: argparse.Namespace) -> Finding:
    free = shutil.disk_usage(options.root).free
    text = f"{free / 1e9:.1f} GB free in {os.path.abspath(options.root)}"
    if not os.access(options.root, os.W_OK):
        return Finding("wrong", "disk", f"{os.path.abspath(options.root)} is not writable")
    if free < _FREE:
        return Finding("wrong", "disk", f"{text}; a release needs about {_FREE / 1e9:g} GB")
    return Finding("ok", "disk", text)


def _account(_: argparse.Namespace) -> Finding:
    return Finding("ok", "account", f"{getpass.getuser()} approves unless --approved-by is given")


def _population(options: argparse.Namespace) -> Finding:
    from dagster_project.ledger.population import Population

    file = options.root / "population.yaml"
    if not file.is_file():
        return Finding("note", "population", f"there is no population.yaml in {options.root}")
    found = Population.load(file)
    return Finding(
        "ok",
        "population",
        f"{found.name}, about {found.n_public:,} people, lifetime epsilon "
        f"{found.lifetime_epsilon:g} at delta {found.target_delta:g}",
    )


def _ledger(options: argparse.Namespace) -> Finding:
    from dagster_project.ledger.errors import LedgerMissing
    from dagster_project.ledger.population import Population

    file = options.root / "population.yaml"
    if not file.is_file():
        return Finding("note", "ledger", "it needs population.yaml")
    known = Population.load(file)
    if known.anchor is None and not known.key_path.exists():
        return Finding("note", "ledger", "there is none yet, so nothing has been spent")
    try:
        ledger = open_ledger(Path(os.path.abspath(options.root)))
    except LedgerMissing as missing:
        return Finding("wrong", "ledger", str(missing))
    try:
        head = ledger.verify()
        accounts = "; ".join(f"cohort {cohort.name}: {cohort}" for cohort in ledger.cohorts())
    finally:
        ledger.close()
    return Finding("ok", "ledger", f"{head.entries:,} entries verified; {accounts}")


def _data(options: argparse.Namespace) -> Finding:
    from dagster_project.data.layout import column_faults
    from dagster_project.data.schema import Schema
    from dagster_project.data.versions import recorded_version

    folder = data_of(options)
    if not (folder / "schema.yaml").is_file():
        return Finding("note", "data", f"there is no schema.yaml in {folder}")
    schema = Schema.from_file(folder / "schema.yaml")
    if faults := column_faults(folder, schema):
        return Finding("wrong", "data", " ".join(faults))
    tracked = recorded_version(folder) is not None
    dvc = (
        "under DVC"
        if tracked
        else "not under DVC: `dvc add` it, so that versions can be told apart"
    )
    return Finding(
        "ok" if tracked else "note",
        "data",
        f"{schema.name}: {len(schema.attributes)} attributes and pictures of "
        f"{schema.image.height} x {schema.image.width}; {dvc}",
    )
