"""`bench scale`: time and peak memory of every stage by the number of people, on drawn data."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster_project.benchmark.scale import Row

NAME, TEXT = "scale", "measure time and memory of every stage by the number of people"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sizes and where the results go."""
    parser.add_argument(
        "--people",
        type=lambda text: [int(float(part)) for part in text.split(",")],
        default=[10_000, 100_000],
        metavar="N,N",
        help="numbers of people; a million take about an hour on one core",
    )
    parser.add_argument(
        "--until", default="fidelity_report", metavar="STAGE", help="the last stage to measure"
    )
    parser.add_argument("--add", type=Path, metavar="JSON", help="add to these earlier results")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="write a figure")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Measure and print; rows appear as they are measured."""
    from dagster_project.benchmark import scale

    if options.until not in scale.STAGES:
        raise ValueError(f"--until must be one of {', '.join(scale.STAGES)}")
    rows = []
    if options.add is not None:
        rows = [scale.Row(**row) for row in json.loads(options.add.read_text())["rows"]]
    for people in options.people:
        rows += scale.measure(people, until=options.until, told=_tell)
    if options.plot is not None:
        scale.plot(rows, options.plot)
    if options.json:
        print(json.dumps(scale.to_json(rows), indent=1))
        return 0
    for slope in scale.slopes(rows):
        print(
            f"{slope['stage']:22} time grows with n^{slope['time_exponent']}, "
            f"{slope['cpu_microseconds_per_person']} us a person; "
            f"memory {slope['memory_ratio']} x, {slope['bytes_per_person']} bytes a person"
        )
    return 0


def _tell(row: Row) -> None:
    print(
        f"{row.people:>10,} {row.stage:22} {row.cpu_seconds:9.2f} CPU s "
        f"{row.peak_memory / 1e6:8.0f} MB",
        file=sys.stderr,
        flush=True,
    )
