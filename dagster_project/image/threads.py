"""Threads for independent parts of a computation, such as the microbatches of a step.

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

from dagster_project.data.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


class Ended(Exception):
    """The threads end because of an error or an interruption outside them."""


class Threads:
    """As many threads as torch uses on a CPU, with one core each; a GPU has a single thread.

    A context manager, within which `map` and `submit` may be called.

    Args:
        device: Where the networks are.
        parts: Number of parts, if known. Fewer parts than cores share the cores.
    """

    def __init__(self, device: torch.device, *, parts: int | None = None) -> None:
        self._threads = torch.get_num_threads()
        most = self._threads if parts is None else max(1, min(parts, self._threads))
        self._count = most if device.type == "cpu" else 1
        self._ended = False
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
            torch.set_num_threads(self._threads // self._count)
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
        self._ended = kind is not None
        self._pool.shutdown(cancel_futures=True)

    def told(self, progress: Progress) -> Progress:
        """Return a progress callback for a long part, which it ends if an error has ended all."""

        def tell(done: float, text: str) -> None:
            if self._ended:
                raise Ended
            progress(done, text)

        return tell

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
