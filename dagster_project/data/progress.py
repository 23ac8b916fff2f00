"""Progress reports of long-running work, with one type from reading to the command line."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the fraction done, in [0, 1], and a short text."""


def silent(fraction: float, text: str) -> None:
    """A `Progress` that shows nothing."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """Return a `Progress` for one step that takes [start, stop] of the whole."""
    return lambda fraction, text: progress(start + (stop - start) * fraction, text)
