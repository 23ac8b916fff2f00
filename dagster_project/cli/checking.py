"""The command `check`: a private look at a data folder before anything is spent."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from dagster_project.cli.place import data_of

if TYPE_CHECKING:
    from dagster_project.data.check import Look, Reason

MAX_LOST = 0.2
_VALUES = 12  # losses by attribute value that are printed


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

    if not 0 <= options.max_lost <= 1 or options.examples < 0:
        raise ValueError("--max-lost must lie in [0, 1], and --examples must not be negative")
    folder = data_of(options)
    found = look(folder, folder / "schema.yaml", examples=options.examples)
    too_many = found.exceeding(options.max_lost)
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        print("PRIVATE: the output below describes the records.", file=sys.stderr)
        print("\n".join(_lines(found)))
        if too_many:
            text = f"dptabimage: {too_many} exceeds --max-lost {options.max_lost:g}"
            print(text, file=sys.stderr)
    return 2 if found.stops or too_many else 0


def _lines(found: Look) -> list[str]:
    if found.stops:
        return [f"{fault.file}: {fault.text}" for fault in found.stops]
    lines = ["would train or be held out:"]
    lines += [f"  {part}" for part in (found.rows, found.people, found.pictures)]
    if found.causes:
        lines += ["likely causes:", *(f"  {cause}" for cause in found.causes)]
    for lost, title in ((True, "rows dropped:"), (False, "rows that a policy changes:")):
        some = [reason for reason in found.reasons if reason.lost is lost]
        lines += [title, *(line for reason in some for line in _reason(reason))] if some else []
    losing = [part for part in found.values if part.kept < part.found and found.people.kept]
    if losing:
        lines += ["by attribute value, worst first:"]
        lines += [f"  {part}" for part in losing[:_VALUES]]
        lines += [f"  and {len(losing) - _VALUES} more values"] if len(losing) > _VALUES else []
    if found.notes:
        lines += ["notes:", *(f"  {fault.file}: {fault.text}" for fault in found.notes)]
    if len(lines) == 4:
        lines.append("no faults")
    return lines


def _reason(reason: Reason) -> list[str]:
    shown = [f"      row {fault.row}: {fault.text}" for fault in reason.examples]
    return [f"  {reason.rows:8}  {reason.text}", *shown]
