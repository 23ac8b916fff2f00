"""How long-running work reports how far it is; the same type from reading to the command line."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Takes the fraction done, in [0, 1], and a short text."""


def silent(fraction: float, text: str) -> None:
    """A `Progress` that shows nothing."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A `Progress` for one step that takes [start, stop] of the whole."""
    return lambda fraction, text: progress(start + (stop - start) * fraction, text)
