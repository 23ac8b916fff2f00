"""What a steward's look at a data folder finds: parts that train, reasons, causes. All private.

`check` does the looking.
"""

from __future__ import annotations

from dataclasses import dataclass

_VALUES = 12  # losses by attribute value that are shown
FEWEST = 20  # rows with a value below which the share of them that is lost says little


@dataclass(frozen=True)
class Fault:
    """One fault. Private.

    Attributes:
        file: Name of the file.
        text: What is wrong, and what a release will do about it.
        row: Number of the (first) row, counted from 1 at the first record. Empty lines of a CSV
            file count, so that row r is line r + 1. None if the fault has no row.
        stops: Whether a release is refused; otherwise the schema's policy is followed.
    """

    file: str
    text: str
    row: int | None = None
    stops: bool = False

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{'stops' if self.stops else 'note '}  {where}: {self.text}"


@dataclass(frozen=True)
class Part:
    """How many of some things would train. Private.

    Attributes:
        what: Their name: rows, people, pictures, or an attribute with one of its values.
        found: How many there are.
        kept: How many of them would train (or be held out).
    """

    what: str
    found: int
    kept: int

    @property
    def lost(self) -> float:
        """Share that is lost, in [0, 1]; 0 if there is nothing."""
        return 1 - self.kept / self.found if self.found else 0.0

    def __str__(self) -> str:
        return f"{self.kept:,} of {self.found:,} {self.what}" + (
            f" ({100 * self.lost:.1f} % lost)" if self.kept < self.found else ""
        )


@dataclass(frozen=True)
class Reason:
    """Rows that share a reason. Private.

    Attributes:
        text: The reason.
        rows: How many rows it concerns.
        lost: Whether it costs them; otherwise the schema's policy changes a value.
        examples: The first of these rows.
    """

    text: str
    rows: int
    lost: bool
    examples: tuple[Fault, ...]


@dataclass(frozen=True)
class Look:
    """What a look at a data folder finds. Private.

    Attributes:
        stops: What refuses a release, without a look at a record.
        rows, people, pictures: What would train. A row whose person cannot be read counts as one
            person; a picture counts once for each row.
        values: The rows with each value of each attribute, the largest loss first.
        reasons: Why rows are lost or changed, the most rows first.
        notes: Other findings, such as images that no row names.
        causes: Sentences that explain many of these at once.
    """

    stops: tuple[Fault, ...] = ()
    rows: Part = Part("rows", 0, 0)
    people: Part = Part("people", 0, 0)
    pictures: Part = Part("pictures", 0, 0)
    values: tuple[Part, ...] = ()
    reasons: tuple[Reason, ...] = ()
    notes: tuple[Fault, ...] = ()
    causes: tuple[str, ...] = ()

    def exceeding(self, most: float) -> Part | None:
        """Return what loses a larger share than `most`: the people, or else the rows with the one
        value (of at least `FEWEST`) that loses the most; None if nothing does. If nobody is left,
        these are the people, even if nobody was there."""
        if not (self.people.kept or self.stops):
            return self.people
        counted = (part for part in self.values if part.found >= FEWEST)
        worst = max(counted, key=lambda part: part.lost, default=self.people)
        return next((part for part in (self.people, worst) if part.lost > most), None)

    @property
    def faults(self) -> list[Fault]:
        """All findings, by file and row."""
        found = [fault for reason in self.reasons for fault in reason.examples]
        found.sort(key=lambda fault: (fault.row is None, fault.row or 0))
        return [*self.stops, *found, *self.notes]


def as_lines(found: Look) -> list[str]:
    """Return the look as lines of text: what trains, the causes, the reasons, the values."""
    if found.stops:
        return [f"{fault.file}: {fault.text}" for fault in found.stops]
    lines = ["would train or be held out:"]
    lines += [f"  {part}" for part in (found.rows, found.people, found.pictures)]
    if found.causes:
        lines += ["likely causes:", *(f"  {cause}" for cause in found.causes)]
    for lost, title in ((True, "rows dropped:"), (False, "rows that a policy changes:")):
        some = [reason for reason in found.reasons if reason.lost is lost]
        lines += [title, *(line for reason in some for line in _reason(reason))] if some else []
    losing = [part for part in found.values if part.kept < part.found and found.people.kept]
    if losing:
        lines += ["by attribute value, worst first:"]
        lines += [f"  {part}" for part in losing[:_VALUES]]
        lines += [f"  and {len(losing) - _VALUES:,} more values"] if len(losing) > _VALUES else []
    if found.notes:
        lines += ["notes:", *(f"  {fault.file}: {fault.text}" for fault in found.notes)]
    if len(lines) == 4:
        lines.append("no faults")
    return lines


def _reason(reason: Reason) -> list[str]:
    shown = [f"      row {fault.row}: {fault.text}" for fault in reason.examples]
    return [f"  {reason.rows:8,}  {reason.text}", *shown]
