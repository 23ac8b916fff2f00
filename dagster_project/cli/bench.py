"""Commands that measure what the software costs on this machine, on drawn data; nothing is spent.

Each benchmark is a module of its own with `NAME`, `TEXT`, `arguments` and `run`.
"""

from __future__ import annotations

import argparse

from dagster_project.cli import bench_dp_step, bench_scale

BENCHMARKS = (bench_dp_step, bench_scale)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmarks."""
    found = parser.add_subparsers(title="benchmarks", required=True, metavar="BENCHMARK")
    for benchmark in BENCHMARKS:
        new = found.add_parser(benchmark.NAME, help=benchmark.TEXT, description=benchmark.TEXT)
        new.set_defaults(command=benchmark.run)
        benchmark.arguments(new)
