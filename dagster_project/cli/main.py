"""Command line for differentially private synthetic table-image pairs.

Every refusal is one sentence on standard error and an exit code: 0 success, 2 the request or the
form of the data is wrong, 3 the budget or the ledger refuses, 4 a stage failed. `release` runs the
same Dagster job as the graph in the browser.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dagster_project.cli import (
    ask,
    audit,
    bench,
    checking,
    compare,
    doctor,
    importing,
    ledger,
    place,
    private,
    release,
    starting,
    steward,
)
from dagster_project.settings.presets import DEFAULT, PRESETS

OK, WRONG_REQUEST, REFUSED, FAILED = 0, 2, 3, 4
Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    place.ensure_account()
    command: Command = options.command
    try:
        place.require_filled(options)
        return command(options)
    except KeyboardInterrupt:
        print("dptabimage: stopped; `dptabimage ledger show` says what is spent", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"dptabimage: {error}", file=sys.stderr)
        return code


def _exit_code(error: Exception) -> int | None:
    """Return the exit code of a refusal, or None for a bug in the program."""
    from dagster_project.compute.workers import WorkerLost
    from dagster_project.ledger.errors import LedgerError
    from dagster_project.ledger.lineage import UntracedFile
    from dagster_project.release.manifest import ManifestError

    if isinstance(error, LedgerError):
        return REFUSED
    if isinstance(error, WorkerLost):
        return FAILED
    known = (ManifestError, UntracedFile, ValueError, FileNotFoundError, PermissionError)
    return WRONG_REQUEST if isinstance(error, known) else None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the command reference is generated from it."""
    parser = argparse.ArgumentParser(prog="dptabimage", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=text, description=text)
        new.set_defaults(command=command)
        return new

    new = add("check", checking.check, "say what would train, and why the rest would not (private)")
    _data(new)
    checking.arguments(new)

    new = add("init", starting.run, "draft schema.yaml and population.yaml for a folder of data")
    starting.arguments(new)

    new = add("import", importing.run, "import a data set of another format into a data folder")
    importing.arguments(new)

    new = add("plan", steward.plan, "price a release without reading a record; spends nothing")
    _data(new)
    _request(new, epsilon=3.0)
    new.add_argument(
        "--modes", action="store_true", help="price the modes reuse, new people only and refresh"
    )
    text = "compare epsilon .5 to 10: what each gives, costs and leaves"
    new.add_argument("--explore", action="store_true", help=text)
    text = "write --explore's comparison as a self-contained page"
    new.add_argument("--html", type=Path, metavar="OUT", help=text)

    new = add("release", release.release, "make a private release by running the whole graph")
    _data(new)
    _request(new, epsilon=None)
    _sampling(new)
    new.add_argument("--yes", "-y", action="store_true", help="spend without asking at a terminal")
    new.add_argument(
        "--extractor",
        default="efficientnet-lite0",
        choices=("efficientnet-lite0", "inception-v3", "pixels"),
        help="features of the Fréchet distance",
    )
    new.add_argument("--weights", help="local file of Inception-v3 weights")
    _compute(new)
    new.add_argument("--approved-by", default="", help="who approves the spending")

    new = add("sample", release.sample, "sample more pairs from a release's models; costs nothing")
    _place(new)
    new.add_argument("release", help="release id")
    _sampling(new)
    text = "only pairs that meet a condition, such as \"finding == 'effusion' and age >= 60\""
    new.add_argument("--where", metavar="CONDITION", help=text)
    text = "csv adds a table and picture files to the Parquet shards"
    new.add_argument("--format", choices=("parquet", "csv"), default="parquet", help=text)
    new.add_argument("--out", type=Path, help="output folder of the bundle")
    _compute(new)
    new.add_argument("--json", action="store_true")

    new = add("lineage", ask.lineage, "show what was spent on a released file or release")
    _place(new)
    new.add_argument("target", help="released file, bundle folder or release id")
    new.add_argument("--json", action="store_true")
    new.add_argument("--html", type=Path, metavar="OUT", help="write a self-contained page")
    new.add_argument("--public", action="store_true", help="omit what is itself private")

    new = add("verify", ask.verify, "verify a bundle: files, epsilon, card and the ledger's charge")
    new.add_argument("bundle", type=Path)
    text = "folder whose ledger must agree (default: the bundle's or this one, if it has a ledger)"
    new.add_argument("--root", type=Path, help=text)

    new = add(
        "ledger", ledger.show, "manage the budget: show, verify, export, anchor, void, add-cohort"
    )
    _place(new)
    ledger.arguments(new)

    new = add("private", private.purge, "delete the private zone of releases: purge")
    _place(new)
    private.arguments(new)

    new = add("doctor", doctor.doctor, "say whether this machine and folder can make a release")
    _data(new)
    new.add_argument("--json", action="store_true")

    new = add("audit", audit.audit, "try to refute the privacy claims; spends nothing")
    _place(new)
    size = new.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about a minute (the default)")
    size.add_argument("--full", action="store_true", help="every audit at its full size")
    new.add_argument("--release", metavar="ID", help="only search this release for copies")
    new.add_argument("--json", action="store_true")

    new = commands.add_parser("bench", help="measure what the software costs on this machine")
    bench.arguments(new)

    new = add("compare", compare.compare, "compare methods on public data (makes NO release)")
    compare.arguments(new, _setting)
    return parser


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="folder with population.yaml")


def _data(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    parser.add_argument("--data", type=Path, default=Path("data"), help="data folder")


def _request(parser: argparse.ArgumentParser, *, epsilon: float | None) -> None:
    """Add the arguments of a request; without a default, epsilon must be given."""
    text = "epsilon of the release"
    parser.add_argument(
        "--epsilon", type=float, default=epsilon, required=epsilon is None, help=text
    )
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--name", default="release", help="prefix of the release id")
    parser.add_argument(
        "--preset", default=DEFAULT, choices=PRESETS, help="recipe that --set modifies"
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        type=_setting,
        metavar="NAME=VALUE",
        help="change a setting, such as dp_sgd.steps=100",
    )
    parser.add_argument(
        "--people",
        default="all",
        metavar="COHORT",
        help="read and charge only this cohort (see `ledger add-cohort`)",
    )
    parser.add_argument(
        "--minimum-people",
        type=int,
        metavar="N",
        help="end the release after a noisy count of people below N, before the rest is spent "
        "(default: half of those that n_public lets expect; 0 counts nobody)",
    )
    parser.add_argument(
        "--train-minutes",
        type=float,
        metavar="MINUTES",
        help="time for DP-SGD on this machine, which limits its steps: one is timed on drawn input "
        "(default: 150 steps at most, about two minutes of two cores)",
    )
    parser.add_argument(
        "--allow-delta", action="store_true", help="accept a larger delta; only on public data"
    )
    parser.add_argument("--json", action="store_true")


def _compute(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    text = "processes that read pairs, train and draw; 1 is this process"
    parser.add_argument("--workers", type=int, default=1, metavar="N", help=text)
    text = "where they run: on this machine, or on a Ray cluster"
    parser.add_argument("--engine", default="local", choices=("local", "ray"), help=text)
    text = "address of the Ray cluster (default: RAY_ADDRESS, or one started on this machine)"
    parser.add_argument("--address", default="", help=text)


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", "-n", type=int, default=4000, help="number of synthetic pairs")
    parser.add_argument("--seed", type=int, default=1, help="public seed of the sampling")
    text = "licence of the synthetic data, such as cc-by-4.0; stated in card and manifest"
    parser.add_argument("--licence", "--license", metavar="NAME", help=text)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
