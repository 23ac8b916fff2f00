"""Agreement between a comparison and its rerun from JSON.

Two runs differ in their privacy noise, so figures agree if their difference is within the variation
over seeds. A standard deviation over few seeds is itself uncertain, so some figures of equivalent
runs differ by more; the expected number is stated beside the observed one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from dagster_project.benchmark import NOTICE
from dagster_project.benchmark.table import COLUMNS, Named, Row, cells, groups

LIMIT = 2.0  # standard deviations


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of one method and epsilon, in two runs.

    Attributes:
        before, again: Means over the seeds of each run.
        deviation: Pooled standard deviation over the seeds of both runs.
        chance: Probability that two equivalent runs differ by more than `LIMIT` deviations, for
            figures that are normal over seeds (Student 1908).
    """

    before: float
    again: float
    deviation: float
    chance: float

    @property
    def deviations(self) -> float:
        """The difference in standard deviations."""
        if math.isclose(self.before, self.again):  # equal up to rounding
            return 0.0
        apart = self.again - self.before
        return apart / self.deviation if self.deviation else math.copysign(math.inf, apart)


def difference(before: Sequence[float], again: Sequence[float]) -> Difference | None:
    """Compare the values of a figure over the seeds of two runs; None if there are too few.

    >>> difference([1.0, 2.0, 3.0], [4.0]).deviations
    2.0
    """
    freedom = len(before) + len(again) - 2
    if freedom < 1 or not before or not again:
        return None
    squares = sum(statistics.pvariance(values) * len(values) for values in (before, again))
    # Standard deviation of the difference of the means, in deviations of one value.
    spread = math.sqrt(1 / len(before) + 1 / len(again))
    return Difference(
        before=statistics.fmean(before),
        again=statistics.fmean(again),
        deviation=math.sqrt(squares / freedom),
        chance=2 * float(stats.t.sf(LIMIT / spread, freedom)),
    )


def markdown(before: Sequence[Row], again: Sequence[Row]) -> str:
    """Return a Markdown table of each figure in both runs and their difference in deviations.

    It has one line per method and epsilon that both runs have, and states how many figures differ
    by more than two standard deviations.
    """
    earlier = {_name(group): group for group in groups(before)}
    pairs = [(earlier[_name(g)], g) for g in groups(again) if _name(g) in earlier]
    found: list[Difference] = []
    lines = []
    for old, new in pairs:
        entries = []
        for _, figure, _, digits in COLUMNS:
            one = difference(_values(old, figure), _values(new, figure))
            if one is None:
                entries.append("—")
                continue
            found.append(one)
            entries.append(
                f"{one.before:.{digits}f} → {one.again:.{digits}f} ({one.deviations:+.1f})"
            )
        name, epsilon = _name(new)
        lines.append(cells([name, f"{epsilon:g}", f"{len(old)}, {len(new)}", *entries]))
    apart = sum(abs(one.deviations) > LIMIT for one in found)
    expected = sum(one.chance for one in found)
    # Headings without bounds, which are the same in both runs.
    headings = [heading.format_map(Named(again[0])).partition(" (")[0] for heading, *_ in COLUMNS]
    return "\n".join(
        [
            f"**{NOTICE}**",
            "",
            cells(["method", "ε", "seeds", *headings]),
            cells(["---"] * (len(headings) + 3)),
            *lines,
            "",
            f"{apart} of {len(found)} figures differ by more than {LIMIT:g} standard deviations; "
            f"with so few seeds, {expected:.0f} would between two runs of the same methods.",
            "",
        ]
    )


def _name(group: Sequence[Row]) -> tuple[str, float]:
    return group[0]["method"], group[0]["epsilon"]


def _values(group: Sequence[Row], figure: str) -> list[float]:
    return [row[figure] for row in group if row.get(figure) is not None]
