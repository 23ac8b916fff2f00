"""Time and peak memory of every stage of a release, by the number of people, on drawn data.

Each stage runs in a process of its own, on a ledger of its own, at a fixed number of training
steps, so that only the people differ between sizes. Memory is what the process allocates itself;
pages of mapped files, which the system takes back when it needs them, are counted apart.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dagster_project.benchmark import project, scale_data
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.data.versions import data_version
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline import fidelity_report
from dagster_project.pipeline.order import between, stage
from dagster_project.pipeline.release import Compute, Release
from dagster_project.planning.planner import build_plan
from dagster_project.settings.recipe import Recipe

EPSILON, DELTA, DRAWN, SEED = 3.0, 1e-9, 2000, 1
SETTINGS = {
    "table.inference": "numpy",  # what many columns ask for; compiling would hide the rest
    "image_generator.steps": 50,
    "image_generator.perceptual_steps": 5,
    "pretraining.images": 2000,
    "pretraining.steps": 20,
    "coarse.finisher_steps": 10,
    "dp_sgd.steps": 20,
    "dp_sgd.replays": 0,
    "detail.images": 256,
    "detail.steps": 5,
}
_EVERY = 0.02  # seconds between two samples of the memory
VERSION, REPORT = "data_version", "fidelity_report"
STAGES = (VERSION, *(known.name for known in between("pairs", "synthetic_release")), REPORT)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage at one number of people.

    Attributes:
        people: Number of people in the data.
        stage: Name of the stage.
        seconds: Wall time, without starting the process and loading the libraries.
        cpu_seconds: CPU time of all threads.
        peak_memory: Most bytes that the process held in memory of its own.
        peak_resident: The same with the pages of mapped files that were in memory.
    """

    people: int
    stage: str
    seconds: float
    cpu_seconds: float
    peak_memory: int
    peak_resident: int


def measure(
    people: int, *, until: str = REPORT, told: Callable[[Row], None] = lambda row: None
) -> list[Row]:
    """Measure the stages up to one on drawn pairs of so many people.

    Args:
        people: Number of people.
        until: The last stage, one of `STAGES`.
        told: Called with each row.

    Raises:
        RuntimeError: A stage failed; its output was shown.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        data = Path(folder) / "data"
        schema = scale_data.write(data, people)
        with project.population(schema, epsilon=EPSILON, delta=DELTA) as population:
            root = population.path.parent
            release_id = _reserve(schema, population)
            for name in STAGES[: STAGES.index(until) + 1]:
                found = _run(["--root", str(root), "--data", str(data), release_id, name])
                rows.append(Row(people=people, stage=name, **found))  # type: ignore[arg-type]
                told(rows[-1])
    return rows


def slopes(rows: Sequence[Row]) -> list[dict[str, float | str | int]]:
    """Return how each stage grew from the fewest people to the most it was measured with.

    `time_exponent` is the power of the number of people that CPU time grew with (1 is linear),
    `memory_ratio` the quotient of the peaks, `bytes_per_person` their difference for each person.
    """
    found: list[dict[str, float | str | int]] = []
    for name in STAGES:
        of_stage = sorted((row for row in rows if row.stage == name), key=lambda row: row.people)
        if len(of_stage) < 2:
            continue
        few, many = of_stage[0], of_stage[-1]
        growth = math.log(many.people / few.people)
        ratio = max(many.cpu_seconds, 1e-3) / max(few.cpu_seconds, 1e-3)
        added = many.peak_memory - few.peak_memory
        found.append(
            {
                "stage": name,
                "people": many.people,
                "time_exponent": round(math.log(ratio) / growth, 2),
                "cpu_microseconds_per_person": round(1e6 * many.cpu_seconds / many.people, 1),
                "memory_ratio": round(many.peak_memory / few.peak_memory, 2),
                "bytes_per_person": round(added / (many.people - few.people), 1),
            }
        )
    return found


def plot(rows: Sequence[Row], file: Path) -> None:
    """Write a figure of CPU time and memory by stage and number of people.

    Stages of less than 10 ms are drawn there, and stages in which nothing happens are left out.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for name, colour in zip(STAGES, colormaps["tab20"](range(20)), strict=False):
        of_stage = sorted((row for row in rows if row.stage == name), key=lambda row: row.people)
        if all(row.cpu_seconds < 0.01 for row in of_stage):
            continue
        people = [row.people for row in of_stage]
        seconds = [max(0.01, row.cpu_seconds) for row in of_stage]
        time_axes.plot(people, seconds, marker="o", label=name, color=colour)
        memory = [row.peak_memory / 1e6 for row in of_stage]
        memory_axes.plot(people, memory, marker="o", color=colour)
    for axes, title in ((time_axes, "CPU seconds"), (memory_axes, "peak memory, MB")):
        axes.set(xscale="log", yscale="log", xlabel="people", title=title)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(file, dpi=120)


def _reserve(schema: Schema, population: Population) -> str:
    plan = build_plan(
        schema,
        Recipe().changed(dict(SETTINGS)),
        name="scale",
        target_epsilon=EPSILON,
        target_delta=DELTA,
        population=population.name,
        data_version="drawn",
        code_version="none",
        identity_key=population.member_key(),
        second_opinion=False,
    )
    ledger = Ledger.open(population)
    try:
        ledger.reserve(plan, approved_by="bench", schema_public=True)
        Release(plan=plan, schema=schema, ledger=ledger, root=population.path.parent).write_schema()
    finally:
        ledger.close()
    return plan.release_id


def _run(arguments: list[str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the stage {arguments[-1]} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run one stage in this process and print its costs as JSON; `measure` calls it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("release")
    parser.add_argument("stage")
    asked = parser.parse_args()
    ledger = Ledger.open(Population.load(asked.root / "population.yaml"))
    try:
        release = Release.load(
            asked.release, root=asked.root, ledger=ledger, compute=Compute(device="cpu")
        )
        with _peak_memory() as peak:
            wall, cpu = time.perf_counter(), time.process_time()
            _stage(release, asked.data, asked.stage)
            found = {
                "seconds": round(time.perf_counter() - wall, 3),
                "cpu_seconds": round(time.process_time() - cpu, 3),
            }
        print(json.dumps(found | peak))
    finally:
        ledger.close()


def _stage(release: Release, data: Path, name: str) -> None:
    if name == VERSION:
        data_version(data)
    elif name == REPORT:
        fidelity_report.make(
            release,
            release.bundle,
            extractor="efficientnet-lite0",
            weights=None,
            seconds={},
            progress=silent,
        )
    else:
        stage(name).run(
            release,
            silent,
            data_dir=data,
            heldout_key=project.HELDOUT_KEY,
            folder=release.bundle,
            n=DRAWN,
            seed=SEED,
        )


@contextmanager
def _peak_memory() -> Iterator[dict[str, int]]:
    """Sample this process' memory until the block ends; both peaks are in the mapping then."""
    found, ended = {"peak_memory": memory("RssAnon")}, threading.Event()

    def sample() -> None:
        while not ended.wait(_EVERY):
            found["peak_memory"] = max(found["peak_memory"], memory("RssAnon"))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield found
    finally:
        ended.set()
        sampler.join()
        found["peak_resident"] = memory("VmHWM")


def memory(kind: str) -> int:
    """Return one of the kernel's figures for this process, in bytes.

    Where there are none (macOS), it is the most that was ever resident.

    Args:
        kind: "RssAnon", memory of its own without mapped files, or "VmHWM", most ever resident.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return fidelity_report.peak_memory()
    (line,) = (line for line in status.splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024


def to_json(rows: Sequence[Row]) -> dict[str, object]:
    """Return rows and slopes as plain JSON."""
    return {"rows": [asdict(row) for row in rows], "slopes": slopes(rows)}


if __name__ == "__main__":
    main()
