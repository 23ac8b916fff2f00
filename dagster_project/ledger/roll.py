"""The table of members in memory: 34 bytes for each person, since there may be a hundred million.

A person is a keyed hash of 32 bytes (`members`). The hashes are kept in order, so that a person is
found by bisection and the table is sealed in one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dagster_project.ledger.errors import LedgerBroken

NAME_BYTES = 32
_NAME, _NUMBER = np.dtype(f"V{NAME_BYTES}"), np.int16
_BLOCK = 10_000  # rows handled at a time as objects of Python


@dataclass(frozen=True)
class Roll:
    """Members and their cohorts.

    Attributes:
        names: Keyed hashes (N,), sorted, each once.
        numbers: Position in `cohorts` of each member's cohort, int16 (N,).
        cohorts: Names of cohorts.
    """

    names: np.ndarray
    numbers: np.ndarray
    cohorts: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[tuple[bytes, str]]) -> Roll:
        """Return the table of rows in any order.

        Raises:
            LedgerBroken: A row is none that this software wrote.
        """
        content, known = bytearray(), dict[str, int]()
        numbers: list[int] = []
        parts = [np.zeros(0, _NUMBER)]
        for name, cohort in rows:
            if len(name) != NAME_BYTES:
                raise LedgerBroken("the ledger's table of members has a row that is no member")
            content += name
            numbers.append(known.setdefault(cohort, len(known)))
            if len(numbers) == _BLOCK:
                parts.append(np.array(numbers, _NUMBER))
                numbers = []
        names = np.frombuffer(bytes(content), _NAME)
        order = np.argsort(names)
        every = np.concatenate([*parts, np.array(numbers, _NUMBER)])
        return cls(names[order], every[order], tuple(known))

    def __len__(self) -> int:
        return len(self.names)

    def knows(self, names: np.ndarray) -> np.ndarray:
        """Return which of some hashes (n,) are members, bool (n,)."""
        return self._places(names) < len(self)

    def are_in(self, names: np.ndarray, cohorts: Iterable[str]) -> np.ndarray:
        """Return which of some hashes (n,) are members of one of the cohorts, bool (n,)."""
        places = self._places(names)
        wanted = [number for number, name in enumerate(self.cohorts) if name in set(cohorts)]
        return np.isin(np.append(self.numbers, _NUMBER(-1))[places], wanted)

    def cohort_of(self, name: bytes) -> str | None:
        """Return the cohort of one hash, None if it is no member."""
        place = int(self._places(packed([name]))[0])
        return self.cohorts[self.numbers[place]] if place < len(self) else None

    def joined(self, names: np.ndarray, cohort: str) -> Roll:
        """Return the table with new members, each hash once, of one cohort."""
        cohorts = self.cohorts if cohort in self.cohorts else (*self.cohorts, cohort)
        number = np.full(len(names), cohorts.index(cohort), _NUMBER)
        every = np.concatenate([self.names, names])
        order = np.argsort(every)
        return Roll(every[order], np.concatenate([self.numbers, number])[order], cohorts)

    def lines(self) -> Iterator[bytes]:
        """Yield what is sealed, in pieces: each hash, its cohort and a line feed, in order."""
        ends = [name.encode() + b"\n" for name in self.cohorts]
        for start in range(0, len(self), _BLOCK):
            part = slice(start, start + _BLOCK)
            rows = zip(self.names[part], self.numbers[part], strict=True)
            yield b"".join(name.tobytes() + ends[number] for name, number in rows)

    def _places(self, names: np.ndarray) -> np.ndarray:
        """Return each hash's position, N if it is no member."""
        if not len(self):
            return np.zeros(len(names), dtype=np.intp)
        places = np.searchsorted(self.names, names)
        found = self.names[np.minimum(places, len(self) - 1)] == names
        return np.where(found, places, len(self))


def packed(names: Iterable[bytes]) -> np.ndarray:
    """Return hashes as an array (n,) in the same order."""
    content = bytearray()
    for name in names:
        content += name
    return np.frombuffer(bytes(content), _NAME)


def blocks(names: np.ndarray) -> Iterator[list[bytes]]:
    """Yield an array's hashes as lists of bytes."""
    for start in range(0, len(names), _BLOCK):
        yield [name.tobytes() for name in names[start : start + _BLOCK]]
