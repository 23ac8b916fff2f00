"""Workers that apply a function to shards: the interface, this process, and a pool of processes.

Whatever runs on workers is exact: a partial sum of integers, or one result for each row. The same
shards therefore give the same bits wherever they run, and a stage can add noise once, in the
process that holds the ledger, after everything has arrived.

Nothing is retried. A worker that dies ends the stage, and the ledger decides what may run again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import Any, Protocol, TypeVar

Shard = TypeVar("Shard")
Result = TypeVar("Result")
Pending = TypeVar("Pending")
Kept = TypeVar("Kept")

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_KEPT: dict[str, Any] = {}
_together: Barrier | None = None  # in a worker of a pool


class WorkerLost(RuntimeError):
    """A worker is gone, or never came; the message is one sentence without private content."""


class Workers(Protocol):
    """Something that applies functions to shards.

    Attributes:
        count: Number of processes that work at the same time.
        here: Whether they are this process, so that nothing is copied.
    """

    @property
    def count(self) -> int: ...
    @property
    def here(self) -> bool: ...

    def map_shards(
        self, function: Callable[[Shard], Result], shards: Iterable[Shard]
    ) -> Iterator[Result]:
        """Yield `function(shard)` of each shard, in the order of the shards.

        Shards are read as needed, so neither they nor the results have to fit in memory together.

        Args:
            function: A picklable function of its argument alone. It draws no private randomness.
            shards: Picklable descriptions of parts of the work.

        Raises:
            WorkerLost: A worker ended before its work was done.
        """
        ...


def kept(name: str, make: Callable[[], Kept]) -> Kept:
    """Return what `make` returned for this name in this process before, or else returns now.

    A worker thus loads a network once for many shards. Only the last name is kept.
    """
    if name not in _KEPT:
        _KEPT.clear()
        _KEPT[name] = make()
    return _KEPT[name]


class InProcess:
    """This process, with as many threads as it has."""

    count, here = 1, True

    def map_shards(
        self, function: Callable[[Shard], Result], shards: Iterable[Shard]
    ) -> Iterator[Result]:
        """See `Workers`."""
        return map(function, shards)


class ProcessPool:
    """Processes of this machine, with a fresh interpreter and one thread each."""

    here = False

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool, self.count = pool, count

    def map_shards(
        self, function: Callable[[Shard], Result], shards: Iterable[Shard]
    ) -> Iterator[Result]:
        """See `Workers`."""
        try:
            yield from in_order(
                lambda shard: self._pool.submit(function, shard),
                lambda future: future.result(),
                shards,
                waiting=2 * self.count,
            )
        except BrokenProcessPool:
            raise lost() from None


def lost() -> WorkerLost:
    """Return the error for a worker that died."""
    return WorkerLost(
        "a worker process ended before its work was done, so this stage stopped; start the same "
        "release again, and the ledger decides what may run"
    )


def in_order(
    submit: Callable[[Shard], Pending],
    result: Callable[[Pending], Result],
    shards: Iterable[Shard],
    *,
    waiting: int,
) -> Iterator[Result]:
    """Yield the results of shards in order, with at most `waiting` of them submitted at a time."""
    pending: deque[Pending] = deque()
    for shard in shards:
        if len(pending) == waiting:
            yield result(pending.popleft())
        pending.append(submit(shard))
    while pending:
        yield result(pending.popleft())


@contextmanager
def open_pool(count: int) -> Iterator[ProcessPool]:
    """Yield a pool whose workers read their number of threads before torch is loaded."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(count)
    pool = ProcessPoolExecutor(
        count, mp_context=context, initializer=_begin_worker, initargs=(together,)
    )
    try:
        # All workers start now. Later, the pool could start one at the moment at which it finds
        # another dead, and would then wait for the new one forever.
        list(pool.map(_meet, range(count)))
        yield ProcessPool(pool, count)
    except BrokenProcessPool:
        raise lost() from None
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin_worker(together: Barrier) -> None:
    """Keep what the workers meet at, and end as soon as the parent has, however that happened.

    A pool's workers otherwise wait forever after their parent is killed, with private data open.
    SIGTERM, by which the pool ends all of them when one has died, must end them even if the parent
    ignores it, as under some supervisors: the pool waits until they have ended.
    """
    global _together
    _together = together
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _meet(number: int) -> None:
    """Wait until each worker has a call of this function."""
    assert _together is not None
    _together.wait()
