"""Comparison of methods on public data; writes a table, an image grid and a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

_FAILED = 4


def compare(options: argparse.Namespace) -> int:
    """Run all trials that are not finished and print the table."""
    from dagster_project.benchmark import NOTICE, agreement, bench, registry
    from dagster_project.benchmark.trial import Places

    if options.list:
        for name in registry.known():
            print(f"{name:12} {registry.method(name).title}")
        return 0
    if options.workers < 1:
        raise ValueError("workers must be at least 1")
    configuration = _configuration(options)
    earlier = _earlier_results(options)  # read now: the run may overwrite them
    json_file, out = _places(options)
    places = Places(
        data=Path(configuration.data), out=out, cache=(options.cache or out / "cache").absolute()
    )
    print(NOTICE, file=sys.stderr)
    rows, failed = bench.run(
        configuration,
        places,
        json_file=json_file,
        workers=options.workers,
        told=lambda text: print(text, file=sys.stderr, flush=True),
        progress=_bar,
    )
    if rows:
        print((out / "table.md").read_text())
        print(f"{json_file}\n{out / 'grid.png'}")
        if earlier:
            (out / "agreement.md").write_text(agreement.markdown(earlier, rows))
            print(out / "agreement.md")
    for trial in failed:
        print(f"dptabimage: {trial.key} failed", file=sys.stderr)
    return _FAILED if failed else 0


def arguments(parser: argparse.ArgumentParser, setting: Any) -> None:
    """Add the command's arguments; `setting` parses NAME=VALUE."""
    parser.add_argument("--list", action="store_true", help="list the methods, one per line")
    parser.add_argument(
        "--methods",
        type=_words,
        default=("default",),
        metavar="NAME,...",
        help="methods to compare; LABEL=NAME runs a method again with other settings",
    )
    parser.add_argument("--epsilons", type=_numbers, default=(1.0, 10.0), metavar="E,...")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds: 0, 1, ...")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed")
    parser.add_argument("--data", type=Path, help="folder of pairs declared public (default: data)")
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--n", type=int, default=4000, help="synthetic pairs per trial")
    parser.add_argument(
        "--budget-seconds",
        type=float,
        metavar="S",
        help="CPU seconds of training per trial; a public rule converts them into steps",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        type=setting,
        metavar="[LABEL:]NAME=VALUE",
        help="change a setting of one method or of all methods",
    )
    parser.add_argument(
        "--extractor", default="efficientnet-lite0", choices=("efficientnet-lite0", "pixels")
    )
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    parser.add_argument(
        "--config",
        type=Path,
        help="rerun the comparison of this JSON file, with its recipes and seeds",
    )
    parser.add_argument("--out", type=Path, help="results folder (default: comparison)")
    parser.add_argument("--json", type=Path, help="results file (default: in --out)")
    parser.add_argument(
        "--cache", type=Path, help="folder of work that trials share (default: in --out)"
    )


def _configuration(options: argparse.Namespace) -> Any:
    from dagster_project.benchmark import bench, configuration
    from dagster_project.data.schema import Schema

    if options.config is not None:
        content = json.loads(options.config.read_text())
        earlier = configuration.Configuration.from_json(content.get("configuration", {}))
        data = _data(options.data or Path(earlier.data))
        return earlier.at(data=str(data), data_version=bench.current_version(data))
    data = _data(options.data or Path("data"))
    schema = Schema.from_file(data / "schema.yaml")
    bench.require_public(schema)
    return configuration.Configuration(
        data=str(data),
        data_version=bench.current_version(data),
        schema_hash=schema.hash,
        entries=configuration.entries(options.methods, options.settings),
        epsilons=tuple(options.epsilons),
        seeds=tuple(range(options.first_seed, options.first_seed + options.seeds)),
        delta=options.delta,
        n=options.n,
        extractor=options.extractor,
        budget_seconds=options.budget_seconds,
        resolved={},
    )


def _earlier_results(options: argparse.Namespace) -> list[Any]:
    """Return the results in the JSON file given with --config, if any."""
    if options.config is None:
        return []
    return list(json.loads(options.config.read_text()).get("results", []))


def _data(folder: Path) -> Path:
    return Path(os.path.abspath(folder))


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return the JSON file and the results folder."""
    out = options.out
    if out is None:
        out = options.json.with_suffix("") if options.json else Path("comparison")
    return options.json or out / "results.json", out.absolute()


def _bar(trial: Any) -> Any:
    from dagster_project.orchestration.resources import ComputeResource

    return ComputeResource(bars=True).progress(
        f"{trial.label} ε={trial.epsilon:g} #{trial.seed}", print
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in _words(text))
