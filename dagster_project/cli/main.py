"""The command line: check, plan, release, sample, lineage, verify, ledger, private, audit.

Every refusal is one sentence on standard error and an exit code that says whose move it is:
0 done, 2 the request or the data's form is wrong, 3 the budget or the ledger refuses, 4 a stage
failed. `release` runs the same Dagster job as the graph in the browser.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dagster_project.cli import ask, audit, compare, importing, ledger, private, release, steward
from dagster_project.settings.presets import DEFAULT, PRESETS

OK, WRONG_REQUEST, REFUSED, FAILED = 0, 2, 3, 4
Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = build_parser().parse_args(arguments)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    command: Command = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        print("stopped; the ledger says what is spent: dptabimage ledger show", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        print(f"dptabimage: {error}", file=sys.stderr)
        return code


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that is a refusal, None for a fault of the program."""
    from dagster_project.ledger.errors import LedgerError
    from dagster_project.ledger.lineage import UntracedFile
    from dagster_project.release.manifest import ManifestError

    if isinstance(error, LedgerError):
        return REFUSED
    known = (ManifestError, UntracedFile, ValueError, FileNotFoundError, PermissionError)
    return WRONG_REQUEST if isinstance(error, known) else None


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; the command reference is generated from it."""
    parser = argparse.ArgumentParser(prog="dptabimage", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=text, description=text)
        new.set_defaults(command=command)
        return new

    new = add("check", steward.check, "list every fault of a data folder (private output)")
    _data(new)
    new.add_argument("--json", action="store_true")

    new = add("import", importing.run, "bring a data set of another format into a data folder")
    importing.arguments(new)

    new = add("plan", steward.plan, "price a release before a record is read; spends nothing")
    _data(new)
    _request(new)
    new.add_argument(
        "--modes", action="store_true", help="price reuse, new people only and refresh instead"
    )

    new = add("release", release.release, "make a private release: the whole graph")
    _data(new)
    _request(new)
    _sampling(new)
    new.add_argument(
        "--extractor",
        default="efficientnet-lite0",
        choices=("efficientnet-lite0", "inception-v3", "pixels"),
        help="features of the Fréchet distance",
    )
    new.add_argument("--weights", help="local Inception-v3 weights")
    new.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    new.add_argument("--approved-by", default="", help="who decides to spend")

    new = add("sample", release.sample, "draw other pairs from a release's models; costs nothing")
    _place(new)
    new.add_argument("release", help="release id")
    _sampling(new)
    new.add_argument("--out", type=Path, help="folder of the bundle")
    new.add_argument("--json", action="store_true")

    new = add("lineage", ask.lineage, "what was spent for a released file or release")
    _place(new)
    new.add_argument("target", help="a released file, a bundle's folder or a release id")
    new.add_argument("--json", action="store_true")
    new.add_argument("--html", type=Path, metavar="OUT", help="write one self-contained page")
    new.add_argument("--public", action="store_true", help="without what is itself private")

    new = add("verify", ask.verify, "recompute a bundle's hashes and its epsilon")
    new.add_argument("bundle", type=Path)

    new = add("ledger", ledger.show, "the budget: show, verify, export, anchor, void, add-cohort")
    _place(new)
    ledger.arguments(new)

    new = add("private", private.purge, "end a release's private zone: purge")
    _place(new)
    private.arguments(new)

    new = add("audit", audit.audit, "try to refute the privacy claims; spends nothing")
    _place(new)
    size = new.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="about a minute (the default)")
    size.add_argument("--full", action="store_true", help="every audit at its full size")
    new.add_argument("--release", metavar="ID", help="look for copies in this release instead")
    new.add_argument("--json", action="store_true")

    new = add("compare", compare.compare, "run methods side by side on public data (NO release)")
    compare.arguments(new, _setting)
    return parser


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path(), help="folder with population.yaml")


def _data(parser: argparse.ArgumentParser) -> None:
    _place(parser)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the pairs")


def _request(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epsilon", type=float, default=3.0)
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--name", default="release", help="first part of the release's id")
    parser.add_argument(
        "--preset", default=DEFAULT, choices=PRESETS, help="the recipe that --set changes"
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
        help="read, and charge, this cohort alone (see `ledger add-cohort`)",
    )
    parser.add_argument("--allow-delta", action="store_true", help="on public data alone")
    parser.add_argument("--json", action="store_true")


def _sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", type=int, default=4000, help="number of synthetic pairs")
    parser.add_argument("--seed", type=int, default=1, help="public seed of the sampling")


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
