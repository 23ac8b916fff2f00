"""What one audit measured, what it should have, and whether it does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of an audit's report.

    Attributes:
        name: What was audited.
        measured: What was found, in figures.
        expected: What had to be found.
        holds: Whether it was.
        size: How much was tried.
        seconds: Wall time; 0 where it was not taken.
    """

    name: str
    measured: str
    expected: str
    holds: bool
    size: str
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON."""
        return asdict(self)


def not_run(name: str, expected: str, reason: str) -> Finding:
    """A row for an audit that could not run here. It does not hold: nothing was shown."""
    return Finding(
        name=name, measured=f"NOT RUN: {reason}", expected=expected, holds=False, size="0"
    )
