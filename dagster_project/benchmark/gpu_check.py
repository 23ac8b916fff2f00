"""What a GPU machine can show in nine minutes: engines, steps, statistics, private pictures.

    python -m dagster_project.benchmark.gpu_check OUT [--quick] [--fashion DIR]

Each part runs in a process of its own with a time limit, and writes OUT/PART.json; one that fails
or takes too long is named in OUT/summary.json and loses only itself. Nothing is spent: all data are
drawn or public. DIR holds the IDX files of Fashion-MNIST; without them the example is used.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dagster_project.benchmark import dp_step, private_pictures
from dagster_project.benchmark.private_pictures import Pictures
from dagster_project.example.fashion import DEBIAN_FOLDER
from dagster_project.image.efficientnet import SIDE, efficientnet_lite
from dagster_project.image.embeddings import FeatureMap, cell_sums
from dagster_project.image.gradients import Kind, per_example_engine
from dagster_project.pipeline.image_model import losses
from dagster_project.pipeline.release import Compute

# Accuracy at epsilon 1 and 10 on Fashion-MNIST, of which DPDM has no pretraining (DPImageBench,
# Gong et al. 2025).
PEERS = {"DPDM": (0.764, 0.856), "PrivImage": (0.799, 0.871), "DP-FETA": (0.817, 0.873)}
PEOPLE, DRAWS, PLACES = 32, 4, (0, 1, 15, 30, 31)
_NETWORKS: tuple[dp_step.Network, ...] = ("mixer", "unet")
_KINDS: tuple[Kind, ...] = ("layers", "vmap")


def engines(device: torch.device) -> list[dict[str, Any]]:
    """Check every engine: the same bits with other companions and again, and the right gradients.

    Returns:
        A row for each network and engine: `companions` and `repeats`, numbers of different results
        of one person (1 is right), and `error`, relative to double precision on the CPU.
    """
    rows = []
    with torch.backends.cudnn.flags(benchmark=False, deterministic=True):
        for network, kind in product(_NETWORKS, _KINDS):
            case = dp_step.Case(
                device=device.type, network=network, channels=1, b=PEOPLE, k=DRAWS
            )  # fmt: skip
            rows.append({"network": network, "engine": kind, **_engine(case, kind)})
    return rows


def _engine(case: dp_step.Case, kind: Kind) -> dict[str, Any]:
    model, batch = case.model(), case.batch()
    engine = per_example_engine(model, losses, kind)

    def of(crowd: dict[str, torch.Tensor], place: int) -> torch.Tensor:
        return engine(crowd)[place].cpu()

    companions = set()
    for place in PLACES:
        crowd = {name: part.roll(7 + place, 0) * (1 + 0.1 * place) for name, part in batch.items()}
        for name, part in batch.items():
            crowd[name][place] = part[0]
        companions.add(of(crowd, place).numpy().tobytes())
    found = of(batch, 0)
    repeats = {of(batch, 0).numpy().tobytes() for _ in range(3)}
    exact = per_example_engine(deepcopy(model).cpu().double(), losses, "loop")
    first = {name: part[:1].cpu().double() for name, part in batch.items()}
    expected = exact(first)[0]
    error = float((found.double() - expected).norm() / expected.norm())
    return {"companions": len(companions), "repeats": len(repeats), "error": error}


def statistics(device: torch.device, *, people: int) -> dict[str, float]:
    """Return people per second of the statistics pass, and of the public network on the device."""
    images = np.random.default_rng(0).integers(0, 256, (people, 1, 28, 28), dtype=np.uint8)
    cells = np.ones((people, 1), dtype=np.float32)
    shipped = FeatureMap(
        channels=1, height=14, width=14, scales=(1 / 3, 1 / 6), frequencies=1000,
        pixel_share=0.1, pixel_clip=2.0, perceptual_share=0.5, seed=0,
    )  # fmt: skip
    found = {}
    cell_sums(images[:256], cells[:256], shipped)
    started = time.perf_counter()
    cell_sums(images, cells, shipped)
    found["pass_people_per_second"] = people / (time.perf_counter() - started)
    network = deepcopy(efficientnet_lite("lite1")._network).to(device)
    some = torch.rand(256, 3, SIDE, SIDE, device=device).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for repeats in (2, max(2, people // 256)):  # the first two warm up
            started = time.perf_counter()
            for _ in range(repeats):
                network.extract_features(some)
            if device.type == "cuda":
                torch.cuda.synchronize()
    found["network_people_per_second"] = 256 * repeats / (time.perf_counter() - started)
    return found


def steps(device: torch.device, *, quick: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of `bench dp-step`."""
    on_gpu, seconds = device.type == "cuda", 0.0 if quick else 3.0
    for network, k in product(("mixer",) if quick else dp_step.NETWORKS, (1,) if quick else (1, 8)):
        b = 8 if quick else 512
        case = dp_step.Case(device=device.type, network=network, channels=1, b=b, k=k)
        yield from map(vars, dp_step.measure(case, seconds=seconds, memory=not quick))
    for variant in () if quick or not on_gpu else ("bfloat16", "channels_last"):
        case = dp_step.Case(
            device=device.type, network="unet", channels=1, b=512, k=8, variant=variant
        )  # fmt: skip
        yield from map(vars, dp_step.measure(case, seconds=seconds, memory=False))


def pictures(
    device: torch.device, *, coarse: bool, epsilon: float, quick: bool, fashion: Path | None
) -> dict[str, Any]:
    """Return the accuracy of private pictures, beside that of others."""
    data = Pictures.load(fashion, Path("data"))
    train = partial(private_pictures.run, coarse=coarse, epsilon=epsilon, device=device)
    if quick:
        return train(data.first(500), seconds=1.0, batch=32, drawn=200, wide=False)
    published = {name: figures[epsilon > 1] for name, figures in PEERS.items()}
    return {**train(data, seconds=50.0), "published": published}


def parts(
    device: torch.device, quick: bool, fashion: Path | None
) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return each part's time limit in seconds and what it does, in order; under nine minutes."""
    found: dict[str, tuple[int, Callable[[], Any]]] = {
        "engines": (45, lambda: engines(device)),
        "dp-step": (120, lambda: steps(device, quick=quick)),
        "statistics": (45, lambda: statistics(device, people=256 if quick else 10_240)),
    }
    for epsilon, coarse in product((10.0, 1.0), (True, False)):
        name = f"{'coarse' if coarse else 'full'}-epsilon-{epsilon:g}"
        run = partial(
            pictures, device, coarse=coarse, epsilon=epsilon, quick=quick, fashion=fashion
        )
        found[name] = (80, run)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run all parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--fashion", type=Path, help="folder of the IDX files")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--part", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    device = Compute(device=asked.device).torch_device
    fashion = asked.fashion or (DEBIAN_FOLDER if DEBIAN_FOLDER.is_dir() else None)
    known = parts(device, asked.quick, fashion)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.part:
        file, found = asked.out / f"{asked.part}.json", known[asked.part][1]()
        if isinstance(found, Iterator):  # what was measured before the time limit stays
            rows = []
            for row in found:
                rows.append(row)
                file.write_text(json.dumps(rows, indent=1))
        else:
            file.write_text(json.dumps(found, indent=1))
        return 0
    summary: dict[str, Any] = {
        "device": dp_step.device_name(device),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
        "parts": {},
    }
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    for name, (limit, _) in known.items():
        started = time.perf_counter()
        summary["parts"][name] = {
            "outcome": _outcome([*given, "--part", name], limit, asked.out / f"{name}.log"),
            "seconds": round(time.perf_counter() - started, 1),
        }
        print(f"{name}: {summary['parts'][name]}", flush=True)
        (asked.out / "summary.json").write_text(json.dumps(summary, indent=1))
    return int(any(part["outcome"] != "done" for part in summary["parts"].values()))


def _outcome(arguments: list[str], limit: int, log: Path) -> str:
    command = [sys.executable, "-m", "dagster_project.benchmark.gpu_check", *arguments]
    # cuBLAS needs it to give the same bits on several streams.
    environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    with log.open("w") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=file, timeout=limit, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            return f"took more than {limit} s"
    return "done" if done.returncode == 0 else f"failed, see {log.name}"


if __name__ == "__main__":
    sys.exit(main())
