"""The first lines of a private report: what became of the rows that were read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST = 8  # reasons, and attribute values, that are listed
_NOTABLE = 0.05  # share of the people with a value that must be lost for it to be listed


def rows_read(counts: Mapping[str, Any]) -> list[str]:
    """Return what became of the rows, one sentence a line, the largest losses first. Private.

    Args:
        counts: `data.reading.Counts` as JSON: rows, train, held_out, reasons and values.
    """
    people = counts["train"] + counts["held_out"]
    lines = [
        f"{counts['rows']:,} rows were read. {people:,} people are left, each with one record and "
        f"one picture: {counts['train']:,} train and {counts['held_out']:,} are held out."
    ]
    reasons = sorted(counts["reasons"].items(), key=lambda item: -item[1])
    lines += [f"{rows:,} rows: {reason}." for reason, rows in reasons[:_MOST]]
    if len(reasons) > _MOST:
        lines.append(f"{len(reasons) - _MOST} more reasons are in counts.json.")
    lost = [
        (1 - kept / found, name, found, kept)
        for name, (found, kept) in counts["values"].items()
        if found and 1 - kept / found > _NOTABLE
    ]
    lines += [
        f"Of {found:,} people with {name} and a usable record, {kept:,} are left."
        for _, name, found, kept in sorted(lost, key=lambda row: (-row[0], -row[2]))[:_MOST]
    ]
    return lines
