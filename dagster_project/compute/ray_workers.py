"""Workers on a Ray cluster: one actor for each, started for a stage and ended with it.

Plain actors fit better than Ray Data and Ray Train. Ray Data would copy the private images into its
object store, from where they can be spilled to a disk outside the private zone, and would run a
shard again by itself; here a worker reads its rows where the private zone is mounted, and only row
numbers, exact sums and reasons travel. Ray Train restarts and synchronises training loops that have
a state of their own; here the only state is that of the process that holds the ledger, and workers
are handed people and weights.

The cluster belongs to the private zone: all of that passes through its memory.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from dagster_project.compute import machine
from dagster_project.compute.workers import Result, Shard, WorkerLost, in_order, lost

_START_SECONDS = 600.0  # an autoscaler may have to start machines


class Worker:
    """The actor's class; Ray makes one process of each."""

    def identity(self) -> machine.Identity:
        """Return what determines the bits that this worker computes."""
        return machine.identity()

    def run(self, function: Callable[[Any], Any], shard: Any) -> tuple[bool, Any]:
        """Return (True, result) or (False, exception).

        A raised exception would be kept in Ray's logs and state, and its text may be private.
        """
        try:
            return True, function(shard)
        except Exception as error:
            return False, error.with_traceback(None)


class RayWorkers:
    """Actors that take turns."""

    here = False

    def __init__(self, actors: list[Any]) -> None:
        self._actors, self.count = actors, len(actors)

    def map_shards(
        self, function: Callable[[Shard], Result], shards: Iterable[Shard]
    ) -> Iterator[Result]:
        """See `Workers`."""
        import ray

        def result(reference: Any) -> Result:
            fine, value = ray.get(reference)
            if not fine:
                raise value
            return value

        turns = cycle(self._actors)
        try:
            shared = ray.put(function)  # sent to each machine once
            yield from in_order(
                lambda shard: next(turns).run.remote(shared, shard),
                result,
                shards,
                waiting=2 * self.count,
            )
        except ray.exceptions.RayError:
            raise lost() from None


@contextmanager
def open_ray(count: int, *, address: str | None, gpus: int) -> Iterator[RayWorkers]:
    """Yield `count` equal actors of one CPU each; see `opening.open_workers`."""
    ray = _connected(address)
    kind = ray.remote(
        num_cpus=1,  # and one thread, which Ray derives from it
        num_gpus=gpus,
        max_restarts=0,
        max_task_retries=0,
        scheduling_strategy="SPREAD",
    )(Worker)
    actors = [kind.remote() for _ in range(count)]
    try:
        try:
            found = ray.get([actor.identity.remote() for actor in actors], timeout=_START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            raise WorkerLost(f"the Ray cluster did not start {count} workers in time") from None
        except ray.exceptions.RayError:
            raise WorkerLost("the Ray cluster could not start its workers") from None
        machine.require_equal(found)
        yield RayWorkers(actors)
    finally:
        for actor in actors:
            ray.kill(actor)


def _connected(address: str | None) -> Any:
    """Return the module `ray`, connected for as long as this process lives."""
    import ray

    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ray.exceptions.RayError):
            raise WorkerLost(f"no Ray cluster answers at {address!r}") from None
    return ray
