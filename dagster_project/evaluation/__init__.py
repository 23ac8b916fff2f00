"""How close a synthetic set is to the real one: table, pictures, and the tie between them.

Every figure here is computed on real records and is not differentially private: it stays in the
private zone. Each comes with the two values it is read between: what unrelated pairs would give
(floor) and what as many real pairs give (ceiling). Training the released model, and public
quality figures, do not belong here.
"""

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Takes the fraction done and a short text."""


def silent(fraction: float, text: str) -> None:
    """A `Progress` that says nothing."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A `Progress` for one step that takes [start, stop] of the whole."""
    return lambda fraction, text: progress(start + (stop - start) * fraction, text)
