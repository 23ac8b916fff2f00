"""Costly preparations are begun as soon as it is known which tests run.

They run in a process of their own, for which a second core is free, and which no test can patch. A
test names its own by `@pytest.mark.ahead(prepare=...)` and asks the fixture `ahead` for the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

Prepare = Callable[[Path], Any]  # given an empty folder, which stays until the end


class Ahead:
    """What was begun, one after the other; an exception appears where the result is asked for."""

    def __init__(self) -> None:
        self._worker = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._begun: dict[Prepare, Future[Any]] = {}
        self._place = tempfile.TemporaryDirectory()

    def begin(self, prepare: Prepare) -> None:
        if prepare not in self._begun:
            folder = Path(self._place.name) / str(len(self._begun))
            folder.mkdir()
            self._begun[prepare] = self._worker.submit(prepare, folder)

    def __call__(self, prepare: Prepare) -> Any:
        self.begin(prepare)
        return self._begun[prepare].result()

    def end(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        self._place.cleanup()


_ahead = pytest.StashKey[Ahead]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ahead(prepare=...): begun before the first test runs")
    config.stash[_ahead] = Ahead()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_ahead].end()


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        for item in session.items:
            for mark in item.iter_markers("ahead"):
                session.config.stash[_ahead].begin(mark.kwargs["prepare"])


@pytest.fixture(scope="session")
def ahead(request: pytest.FixtureRequest) -> Iterator[Ahead]:
    """Gives what a preparation gave, once it is done."""
    yield request.config.stash[_ahead]
