"""`bench dp-step`: the price of a private step over that of an ordinary one, on drawn data."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagster_project.benchmark.dp_step import Row

NAME, TEXT = "dp-step", "measure a private step against an ordinary one of the same network"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is measured."""
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--networks", type=_words, default=["mixer", "unet"], metavar="NAME,...",
        help="networks: mixer, wide mixer, unet",
    )  # fmt: skip
    text = "people in the batch (default: 512; 512 / K for the U-Net on a CPU)"
    parser.add_argument("--b", type=int, help=text)
    parser.add_argument("--k", type=_numbers, default=[1, 8], metavar="K,...", help="noise draws")
    parser.add_argument("--channels", type=_numbers, default=[1], metavar="C,...")
    parser.add_argument(
        "--variants", type=_words, default=["float32"], metavar="NAME,...",
        help="float32, bfloat16, channels_last, compile",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=5.0, help="time for each combination")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Measure and print; rows appear on standard error as they are measured."""
    import torch

    from dagster_project.benchmark import dp_step
    from dagster_project.pipeline.release import Compute

    compute = Compute(device=options.device)
    compute.require_device()
    device = compute.torch_device.type
    networks = _known(options.networks, dp_step.NETWORKS, "--networks")
    variants = _known(options.variants, dp_step.VARIANTS, "--variants")
    cases = [
        dp_step.Case(
            device=device,
            network=network,
            channels=channels,
            b=options.b or (max(1, 512 // k) if network == "unet" and device == "cpu" else 512),
            k=k,
            variant=variant,
        )
        for network, channels, k, variant in product(
            networks, options.channels, options.k, variants
        )
    ]
    rows = []
    for case in cases:
        for row in dp_step.measure(case, seconds=options.seconds):
            print(_line(row), file=sys.stderr, flush=True)
            rows.append(vars(row))
    if options.json:
        print(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1))
    return 0


def _line(row: Row) -> str:
    memory = "" if row.peak_memory_ratio is None else f", {row.peak_memory_ratio:.2f} x memory"
    return (
        f"{row.device}: {row.network} ({row.parameters:,} parameters), b = {row.b}, k = {row.k}, "
        f"channels {row.channels}, {row.variant}, {row.engine}{' (chosen)' * row.chosen}: "
        f"{row.ratio:.2f} x time{memory}"
    )


def _known(names: list[str], known: tuple[Any, ...], option: str) -> list[Any]:
    if unknown := set(names) - set(known):
        raise ValueError(f"{option} knows {', '.join(known)}, not {', '.join(sorted(unknown))}")
    return names


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [int(word) for word in _words(text)]
