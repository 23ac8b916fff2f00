"""Time of the three passes over people, on 1, 2, ... workers, on drawn people.

    python -m dagster_project.benchmark.workers --workers 1,2 --people 4000 --engine local

Each line is JSON: the pass, the engine, the number of workers, the seconds of the second run and
its speed relative to the first line's, the workers' CPU seconds, and a hash of the pictures or the
exact sums, which must be the same in all lines of a pass. One worker is a process of one thread
like the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dagster_project.benchmark import scale_data
from dagster_project.compute.opening import open_workers
from dagster_project.compute.workers import Workers, open_pool
from dagster_project.data.decoding import Pictures
from dagster_project.data.layout import find_layout
from dagster_project.data.pairs import Pairs, PairsShard
from dagster_project.data.schema import Schema
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.gradients import per_example_engine
from dagster_project.image.mean_pairs import CellSums
from dagster_project.image.shared_steps import Job, Prepared, StepSums, divide
from dagster_project.pipeline.decoding import Decoder
from dagster_project.pipeline.feature_sums import ShardSums
from dagster_project.pipeline.image_model import losses, microbatch_people, microbatches
from dagster_project.pipeline.release import Compute, Models
from dagster_project.pipeline.shards import parts
from dagster_project.settings.recipe import Recipe

SCHEMA = Schema.from_dict(
    {
        "name": "drawn",
        "public": True,
        "person_id": "person",
        "n_public": 10_000,
        "image": {"column": "image", "channels": 1, "height": 28, "width": 28},
        "attributes": {
            f"attribute {i}": {
                "kind": "categorical",
                "categories": [f"value {j}" for j in range(5)],
                "out_of_domain": "drop",
            }
            for i in range(6)
        },
    }
)
MAP = FeatureMap(
    channels=1, height=14, width=14, scales=(1 / 3, 1 / 6), frequencies=1000, pixel_share=0.1,
    pixel_clip=7.0, perceptual_share=0.5, seed=0,
)  # fmt: skip
_CELLS = len(SCHEMA.attributes)


@dataclass(frozen=True)
class Timed:
    """A function of a shard that also returns the CPU seconds it took."""

    function: Callable[[Any], Any]

    def __call__(self, shard: Any) -> tuple[Any, float]:
        started = time.process_time()
        return self.function(shard), time.process_time() - started


def draw(folder: Path, people: int) -> None:
    """Write people with random smooth images and records."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((people, 1, 7, 7), np.float32))
    images = torch.nn.functional.interpolate(coarse, (28, 28), mode="bilinear")
    codes = rng.integers(0, 5, (people, _CELLS)).astype(np.int16)
    Pairs((images * 255).byte().numpy(), codes, codes.astype(np.float32)).save(folder)


@dataclass
class TimedWorkers:
    """Workers that add up their CPU seconds."""

    workers: Workers
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return self.workers.count

    here = False

    def map_shards(self, function: Callable[[Any], Any], shards: Iterable[Any]) -> Iterator[Any]:
        """See `Workers`."""
        for result, seconds in self.workers.map_shards(Timed(function), shards):
            self.seconds += seconds
            yield result


def write_files(folder: Path, people: int) -> None:
    """Write people with pictures of 32 x 32 as PNG."""
    scale_data.write(folder / "data", people)


def decoding(folder: Path, workers: Workers) -> tuple[np.ndarray, float]:
    """Return everybody's pictures and the workers' CPU seconds."""
    schema = Schema.from_file(folder / "data" / "schema.yaml")
    layout, _ = find_layout(folder / "data", schema)
    assert layout is not None
    rows = np.arange(schema.n_public)
    timed = TimedWorkers(workers)
    images, _, _ = Decoder(folder / "decoding", timed)(
        Pictures(layout.records, layout, schema, rows, 0, len(rows)), lambda done: None
    )
    return images, timed.seconds


def statistics(folder: Path, workers: Workers) -> tuple[np.ndarray, float]:
    """Return the sums of features over everybody and the workers' CPU seconds."""
    function = ShardSums(
        CellSums(noise_multiplier=1.0, sample_rate=1.0, attributes=_CELLS),
        SCHEMA,
        MAP,
        Compute(device="cpu"),
    )
    people = len(Pairs.load(folder))
    shards = [(PairsShard(folder, rows), None) for rows in parts(people, workers.count)]
    return _added(workers.map_shards(Timed(function), shards))


def step(folder: Path, workers: Workers) -> tuple[np.ndarray, float]:
    """Return the sum of clipped gradients of one step on everybody, and CPU seconds."""
    recipe = Recipe().changed({"sampler.model": "two_scale"})
    models = Models(recipe=recipe, schema=SCHEMA, models=folder, compute=Compute(device="cpu"))
    network = models.new_network()
    size = microbatch_people(models, network, batch=512)
    job = Job(
        prepare=partial(_prepare, models, folder, size),
        mechanism=DPSGD(
            noise_multiplier=1.0, max_grad_norm=1.0, sample_rate=1.0,
            expected_batch_size=1.0, steps=1, replay_steps=0,
        ),
        microbatch=size,
        autocast=models.compute.autocast,
        name="step",
    )  # fmt: skip
    weights = {n: p.detach().numpy() for n, p in network.named_parameters()}
    shards = divide(np.arange(len(Pairs.load(folder))), size, workers.count)
    found = workers.map_shards(Timed(StepSums(job, weights, b"k" * 32)), shards)
    return _added((sums.total, seconds) for sums, seconds in found)


def _prepare(models: Models, folder: Path, size: int) -> Prepared:
    network, pairs = models.new_network(), Pairs.load(folder)
    make = partial(microbatches, pairs, models, chunk=size, device=torch.device("cpu"))
    return network, per_example_engine(network, losses, "layers"), make


def _added(found: Iterator[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    sums, seconds = zip(*found, strict=True)
    return np.sum(sums, axis=0), sum(seconds)


def _opened(engine: Any, count: int, address: str | None) -> AbstractContextManager[Workers]:
    if engine == "local":
        return open_pool(count)
    return open_workers(engine, count, address=address)


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each pass and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--pictures", type=int, default=20_000, help="people who are decoded")
    parser.add_argument("--people", type=int, default=4000, help="people of the statistics pass")
    parser.add_argument("--batch", type=int, default=2048, help="people of the step")
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--address", help="of the Ray cluster")
    asked = parser.parse_args(arguments)
    for name, write, run, people in (
        ("decoding", write_files, decoding, asked.pictures),
        ("statistics", draw, statistics, asked.people),
        ("step", draw, step, asked.batch),
    ):
        alone = None
        for count in map(int, asked.workers.split(",")):
            with (
                tempfile.TemporaryDirectory() as folder,
                _opened(asked.engine, count, asked.address) as workers,
            ):
                write(Path(folder), people)
                run(Path(folder), workers)  # loads the networks
                started = time.perf_counter()
                sums, cpu = run(Path(folder), workers)
                seconds = time.perf_counter() - started
            alone = alone or seconds
            row = {
                "pass": name,
                "engine": asked.engine,
                "workers": count,
                "people": people,
                "seconds": round(seconds, 2),
                "times_faster": round(alone / seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "sums": hashlib.sha256(sums.tobytes()).hexdigest()[:16],
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
