"""Threads for independent parts, such as the microbatches of a step: one core for each part.

Small products gain little from several cores, whole parts nearly all. What a part gives does not
depend on the number of threads, and exact sums do not depend on their order.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class Threads:
    """As many threads as torch uses on a CPU; a GPU has one, which only draws the noise.

    A context manager, within which `map` and `submit` may be called.

    Args:
        device: Where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self._threads = torch.get_num_threads()
        self._count = self._threads if device.type == "cpu" else 1
        self._alone = device.type != "cpu" or self._count == 1
        self._autocast = torch.is_autocast_enabled(device.type)
        self._device = device

    def __enter__(self) -> Threads:
        self._pool = ThreadPoolExecutor(self._count)
        # torch's number of threads belongs to a thread, which takes the number that was set last
        # anywhere when it first asks.
        everybody = threading.Barrier(self._count)

        def start() -> None:
            torch.get_num_threads()
            torch.set_num_threads(1)
            everybody.wait()

        for started in [self._pool.submit(start) for _ in range(self._count)]:
            started.result()
        torch.set_num_threads(self._threads)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Run a function in one of the threads."""
        return self._pool.submit(function)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(item) for each item, in order; few items are held at a time."""
        if self._alone:
            yield from map(function, items)
            return
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(self._pool.submit(self._run, function, item))
            if len(pending) > self._count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def _run(self, function: Callable[[Item], Result], item: Item) -> Result:
        with torch.autocast(self._device.type, enabled=self._autocast):  # a thread has its own
            return function(item)
