"""What `check` counts while it reads a data folder. All private."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dagster_project.data import image_causes, value_causes
from dagster_project.data.look import Fault, Look, Part, Reason
from dagster_project.data.picture_sizes import crop_cause
from dagster_project.data.schema import Schema


@dataclass
class Book:
    """What is counted while the rows of all files are read."""

    schema: Schema
    most: int | None
    stops: list[Fault] = field(default_factory=list)
    notes: list[Fault] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    rows: int = 0
    whole: int = 0
    pictures: int = 0
    nobody: int = 0
    counts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    examples: dict[tuple[str, bool], list[Fault]] = field(default_factory=lambda: defaultdict(list))
    persons: dict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    able: set[str] = field(default_factory=set)
    named: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    unfound: list[object] = field(default_factory=list)
    shades: Counter[bool] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    outside: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    fractions: dict[str, Counter[bool]] = field(default_factory=lambda: defaultdict(Counter))

    def __post_init__(self) -> None:
        shape = (2, len(self.schema.attributes), max(self.schema.sizes))
        self.seen = np.zeros(shape, dtype=np.int64)

    def add(self, reason: str, fault: Fault, *, lost: bool, rows: int = 1) -> None:
        """Count rows that share a reason, and keep the first of them."""
        self.counts[reason, lost] += rows
        kept = self.examples[reason, lost]
        if self.most is None or len(kept) < self.most:
            kept.append(fault)

    def repeated(self, training: str) -> None:
        """Note the people with several rows, and those who are also held out."""
        for person, places in self.persons.items():
            rows = [row for name, row in places if name == training]
            held_out = [row for name, row in places if name != training]
            for name, many in ((training, rows), ("heldout.parquet", held_out)):
                if len(many) > 1:
                    text = f"{person!r:.60} is in rows {row_list(many)}; one is chosen at random."
                    fault = Fault(name, text, many[0])
                    self.add("further row of a person", fault, lost=False, rows=len(many) - 1)
            if rows and held_out:
                text = f"{person!r:.60} is also in heldout.parquet and is not used for training."
                self.add("person also held out", Fault(training, text, rows[0]), lost=False)

    def _few(self) -> list[str]:
        stated = self.schema.n_public
        if 2 * len(self.able) >= stated:
            return []
        left = f"{len(self.able):,} people are" if len(self.able) != 1 else "1 person is"
        return [
            f"{left} left, fewer than half of n_public: {stated}, so that a "
            "release would end after its count of people."
        ]

    def closed(self) -> Look:
        """Return the look, with the largest losses first."""
        values = [
            Part(f"rows with {a.name} {label!r:.60}", int(self.seen[0, i, j]), int(kept))
            for i, a in enumerate(self.schema.attributes)
            for j, label in enumerate(a.labels)
            for kept in [self.seen[1, i, j]]
        ]
        found = [
            value_causes.value_cause(a, self.outside[a.name])
            for a in self.schema.attributes
            if self.outside[a.name]
        ]
        for a in self.schema.attributes:
            found.append(value_causes.grouped_cause(a, self.fractions[a.name]))
        found += value_causes.id_causes(list(self.persons), self.schema.person_id_rule)
        found.append(crop_cause(self.sizes, self.schema.image))
        found.append(image_causes.shade_cause(self.shades, self.schema.image))
        found.append(image_causes.shared_cause(self.named))
        return Look(
            stops=tuple(self.stops),
            rows=Part("rows", self.rows, self.whole),
            people=Part("people", len(self.persons) + self.nobody, len(self.able)),
            pictures=Part("pictures", self.rows, self.pictures),
            values=tuple(sorted(values, key=lambda part: (-part.lost, -part.found))),
            reasons=tuple(
                Reason(text, rows, lost, tuple(self.examples[text, lost]))
                for (text, lost), rows in sorted(
                    self.counts.items(), key=lambda item: (not item[0][1], -item[1])
                )
            ),
            notes=tuple(self.notes),
            causes=(*self.causes, *filter(None, found), *self._few()),
        )


def row_list(rows: Sequence[int]) -> str:
    """Return the first few of some row numbers as text."""
    shown = ", ".join(map(str, rows[:10]))
    return shown + (f" and {len(rows) - 10:,} more" if len(rows) > 10 else "")
