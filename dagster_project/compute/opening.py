"""Opens the workers that a setting names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from dagster_project.compute.ray_workers import open_ray
from dagster_project.compute.workers import InProcess, Workers, open_pool

Engine = Literal["local", "ray"]


@contextmanager
def open_workers(
    engine: Engine, count: int, *, address: str | None = None, gpus: int = 0
) -> Iterator[Workers]:
    """Yield workers, and end them afterwards.

    Args:
        engine: "local" for this machine, "ray" for a Ray cluster.
        count: Number of workers; one local worker is this process.
        address: Address of the Ray cluster, as `ray.init` takes it.
        gpus: GPUs of each Ray worker.

    Raises:
        WorkerLost: The cluster cannot be reached or is too small, or its workers differ.
    """
    if engine == "ray":
        with open_ray(count, address=address, gpus=gpus) as workers:
            yield workers
    elif count == 1:
        yield InProcess()
    else:
        with open_pool(count) as workers:
            yield workers
