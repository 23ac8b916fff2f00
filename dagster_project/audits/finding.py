"""Findings: what an audit measured, what it expected, and whether that holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A row of an audit's report.

    Attributes:
        name: What was audited.
        measured: The measured figures.
        expected: The expected figures.
        holds: Whether the expectation holds.
        size: Number of tries.
        seconds: Wall time; 0 if not measured.
    """

    name: str
    measured: str
    expected: str
    holds: bool
    size: str
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON."""
        return asdict(self)


def not_run(name: str, expected: str, reason: str) -> Finding:
    """Return a row for an audit that could not run. It does not hold, as nothing was shown."""
    return Finding(
        name=name, measured=f"NOT RUN: {reason}", expected=expected, holds=False, size="0"
    )
