"""The command `check`: a private look at a data folder before anything is spent."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from dagster_project.cli.place import data_of

MAX_LOST = 0.2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.add_argument(
        "--examples", type=int, default=0, metavar="N", help="show N rows for each reason"
    )
    parser.add_argument(
        "--max-lost",
        type=float,
        default=MAX_LOST,
        metavar="SHARE",
        help="exit with 2 if a larger share of the people, or of the rows with one attribute "
        f"value, would not train (default: {MAX_LOST})",
    )
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(command=check)


def check(options: argparse.Namespace) -> int:
    """Print what would train and why the rest would not. The output is private."""
    from dagster_project.data.check import look
    from dagster_project.data.look import as_lines

    if not 0 <= options.max_lost <= 1 or options.examples < 0:
        raise ValueError("--max-lost must lie in [0, 1], and --examples must not be negative")
    folder = data_of(options)
    found = look(folder, folder / "schema.yaml", examples=options.examples)
    too_many = found.exceeding(options.max_lost)
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print("PRIVATE: the output below describes the records.", file=sys.stderr)
        print("\n".join(as_lines(found)))
        if too_many:
            limit = f"{too_many} exceeds --max-lost {options.max_lost:g}"
            text = f"dptabimage: {limit if too_many.kept else 'nobody would train'}"
            print(text, file=sys.stderr)
    return 2 if found.stops or too_many else 0
