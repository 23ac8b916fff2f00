"""The terminal, or pipe, of the process that started a run.

Dagster captures the standard streams while a step runs, so that a step neither sees a terminal nor
reaches it. The command line therefore keeps its standard error before a run starts, and progress
is shown there.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

EVERY = 5.0  # seconds between two lines where there is no terminal
_kept: TextIO | None = None
_current: Lines | None = None


def keep() -> None:
    """Remember standard error as it is now, for all that is shown until the process ends."""
    global _kept
    if _kept is None:
        _kept = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")


def stream() -> TextIO:
    """Return the kept stream, or standard error if none was kept."""
    return _kept or sys.stderr


def end() -> None:
    """End the lines of a stage that failed or was interrupted."""
    if _current is not None:
        _current.show(1.0)


class Lines:
    """Lines with the time left of a stage, every few seconds while it lasts.

    They are printed by a thread of their own, because a stage may do long work between two reports.

    Args:
        stage: Name of the stage.
        out: Where the lines go.
        every: Seconds between two lines.
    """

    def __init__(self, stage: str, out: TextIO, *, every: float = EVERY) -> None:
        global _current
        end()  # stages run one after the other
        _current = self
        self._stage, self._out, self._every = stage, out, every
        self._started, self._done, self._reached = time.monotonic(), 0.0, 0.0
        self._ended = threading.Event()
        threading.Thread(target=self._run, name=f"progress of {stage}", daemon=True).start()

    def show(self, fraction: float) -> None:
        """Note the fraction done; 1 ends the lines."""
        if fraction > self._done:
            self._done, self._reached = fraction, time.monotonic() - self._started
        if fraction >= 1:
            self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            passed = time.monotonic() - self._started
            # The fraction moves in steps, so the time of its last step is what it tells of.
            left = self._reached / self._done - passed if self._done > 0 else 0.0
            text = f"{self._stage}: {100 * self._done:.0f} % after {_span(passed)}"
            text += f", about {_span(left)} left" if left > 0 else ""
            try:
                print(text, file=self._out, flush=True)
            except (OSError, ValueError):  # nobody reads any more, or the stream is closed
                return


def bar(stage: str, out: TextIO) -> Callable[[float, str], None]:
    """Return a callback that shows a bar on a terminal, once the stage has lasted two seconds."""
    from tqdm import tqdm

    shown = tqdm(
        total=100,
        desc=stage,
        delay=2,
        file=out,
        leave=False,
        ncols=os.get_terminal_size(out.fileno()).columns or 80,  # 0 in a pseudo-terminal
        bar_format="{desc} {percentage:3.0f}% |{bar:30}| {elapsed}<{remaining} {postfix}",
    )

    def show(fraction: float, text: str) -> None:
        shown.set_postfix_str(text, refresh=False)
        shown.update(max(0, 100 * fraction - shown.n))
        if fraction >= 1:
            shown.close()

    return show


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
