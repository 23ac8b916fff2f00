"""The way from shuffled to real pairs that a figure has gone, in a share and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dagster_project.evaluation.intervals import LEAST_FOR_VERDICT, Interval

BEYOND = "beyond the score of real pairs"
BEHIND = "short of the score of shuffled records"
NO_WAY = "real pairs score no better than shuffled records here"


@dataclass(frozen=True, kw_only=True)
class Way:
    """Where a figure lies between its floor and its ceiling.

    Attributes:
        share: Percentage of the way, within 0 to 100; None if there is no way to go.
        low, high: Ends of its interval; None without one.
        verdict: The share in words; empty without one, or if too few people are held out.
        note: Why the share is at an end or missing; empty otherwise.
    """

    share: float | None
    low: float | None
    high: float | None
    verdict: str
    note: str

    @property
    def words(self) -> str:
        """Verdict and note."""
        return ", ".join(filter(None, (self.verdict, self.note)))


def way(
    floor: float, value: float, ceiling: float, ends: Interval | None, *, up: bool, heldout: int
) -> Way:
    """Return the way from `floor` to `ceiling`.

    Fewer than `LEAST_FOR_VERDICT` held-out people cannot carry a verdict. The note still says if
    the figure lies outside its floor and ceiling, or if these are in the wrong order, as happens by
    chance in small sets.

    Args:
        floor: Score of shuffled records.
        value: Score of the synthetic pairs.
        ceiling: Score of real pairs.
        ends: Interval of the way, in [0, 1].
        up: Whether higher scores are better.
        heldout: Number of held-out people.

    >>> way(0.5, 0.8, 0.9, (0.7, 0.8), up=True, heldout=400).words
    '75 % of the way (70 to 80 %)'
    >>> way(0.5, 0.95, 0.9, None, up=True, heldout=40).words
    'beyond the score of real pairs'
    """
    if not all(map(math.isfinite, (floor, value, ceiling))):
        return Way(share=None, low=None, high=None, verdict="", note="")
    length, gone = (ceiling - floor, value - floor) if up else (floor - ceiling, floor - value)
    if length <= 0 or math.isclose(floor, ceiling):
        return Way(share=None, low=None, high=None, verdict="", note=NO_WAY)
    share = 100 * min(1.0, max(0.0, gone / length))
    low, high = (100 * end for end in ends) if ends else (None, None)
    within = "" if low is None else f" ({low:.0f} to {high:.0f} %)"
    return Way(
        share=share,
        low=low,
        high=high,
        verdict=f"{share:.0f} % of the way{within}" if heldout >= LEAST_FOR_VERDICT else "",
        note=BEYOND if gone > length else BEHIND if gone < 0 else "",
    )
