"""Junction trees of a table model: its cliques, its size, and its size with one more pair.

A model whose attributes are linked by the measured pairs is held as tables over the cliques of a
triangulated graph (Koller, Friedman, "Probabilistic graphical models", 2009, chapter 10). Finding
the smallest triangulation is hard; the greedy rule of `JunctionTree.of` eliminates the attribute
whose clique is smallest, and `JunctionTree.with_pair` extends a tree along a path, which can be
priced for all pairs at once. Both use only sizes and pairs, which are public or released.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Clique = frozenset[int]
CELL_BYTES = 8  # float64


@dataclass(frozen=True)
class JunctionTree:
    """Cliques of attribute positions, joined to a forest.

    Attributes:
        sizes: Number of cells of each attribute.
        cliques: The maximal cliques, each behind its parent.
        parents: Position of each clique's parent, None for the root of a component. What a clique
            shares with all earlier ones lies in its parent (running intersection).
    """

    sizes: tuple[int, ...]
    cliques: tuple[Clique, ...]
    parents: tuple[int | None, ...]

    @classmethod
    def of(cls, sizes: Sequence[int], pairs: Iterable[tuple[int, int]]) -> JunctionTree:
        """Return the tree of greedy elimination by the number of cells; ties go by position."""
        near: dict[int, set[int]] = {axis: set() for axis in range(len(sizes))}
        for i, j in pairs:
            near[i].add(j)
            near[j].add(i)
        cells = {axis: _cells(sizes, {axis, *near[axis]}) for axis in near}
        cliques = []
        while near:
            axis = min(cells, key=lambda axis: (cells[axis], axis))
            others = near.pop(axis)
            del cells[axis]
            for other in others:
                near[other] |= others
                near[other] -= {axis, other}
            for other in others:
                cells[other] = _cells(sizes, {other, *near[other]})
            cliques.append(frozenset({axis, *others}))
        return cls._joined(tuple(sizes), cliques)

    @classmethod
    def _joined(cls, sizes: tuple[int, ...], cliques: Iterable[Clique]) -> JunctionTree:
        """Return the tree of greatest separators over cliques that have one (Prim's algorithm)."""
        waiting = list(_maximal(cliques))
        ordered: list[Clique] = []
        parents: list[int | None] = []
        shared, above = [0] * len(waiting), [0] * len(waiting)
        while waiting:
            best = max(range(len(waiting)), key=lambda k: shared[k])
            ordered.append(waiting.pop(best))
            common, parent = shared.pop(best), above.pop(best)
            parents.append(parent if common else None)
            for k, clique in enumerate(waiting):
                if (number := len(clique & ordered[-1])) > shared[k]:
                    shared[k], above[k] = number, len(ordered) - 1
        return cls(sizes, tuple(ordered), tuple(parents))

    @cached_property
    def cells(self) -> int:
        """The number of cells of all tables."""
        return sum(_cells(self.sizes, clique) for clique in self.cliques)

    @property
    def bytes(self) -> int:
        """The bytes of all tables."""
        return CELL_BYTES * self.cells

    def with_pair(self, pair: tuple[int, int]) -> JunctionTree:
        """Return a tree with a clique that holds the pair: the smaller of both ways' (`growth`)."""
        i, j = pair
        ways = self._path(i, j), self._path(j, i)
        found = [self._joined(self.sizes, [*self.cliques, *new]) for new in ways]
        return min(found, key=lambda tree: tree.cells)

    @cached_property
    def growth(self) -> np.ndarray:
        """The most cells that each pair would add, int64 (d, d), symmetric; zero inside a clique.

        One attribute is carried along the path of cliques to the other: between two separators of
        the path there is a new clique of both and the carried attribute. Of the two directions the
        smaller counts. It is too high only where a new clique is within the next.
        """
        d = len(self.sizes)
        added = np.zeros((d, d), dtype=np.int64)
        for i in range(d):
            for j, cells in self._carried(i):
                added[i, j] = cells
        return np.minimum(added, added.T)

    @cached_property
    def _near(self) -> list[list[int]]:
        near: list[list[int]] = [[] for _ in self.cliques]
        for k, parent in enumerate(self.parents):
            if parent is not None:
                near[k].append(parent)
                near[parent].append(k)
        return near

    def _carried(self, i: int) -> Iterator[tuple[int, int]]:
        """Yield every attribute that shares no clique with i, and the cells of carrying i to it."""
        seen = {j for clique in self.cliques if i in clique for j in clique}
        for clique, entered, before in self._outwards(i):
            for j in clique - seen:
                yield j, before + self._added(clique, entered | {i, j})
            seen |= clique
        for j in set(range(len(self.sizes))) - seen:  # in another component
            alone = sum(self.sizes[k] for k in (i, j) if frozenset({k}) in self.cliques)
            yield j, self.sizes[i] * self.sizes[j] - alone

    def _outwards(self, i: int) -> Iterator[tuple[Clique, Clique, int]]:
        """Yield each clique of i's component without i, from i's own outwards.

        With it come the separator by which the path enters it, and the cells that carrying i to
        there adds.
        """
        start = [k for k, clique in enumerate(self.cliques) if i in clique]
        reached, stack = set(start), [(k, Clique(), 0) for k in start]
        while stack:
            k, entered, before = stack.pop()
            for other in self._near[k]:
                if other in reached:
                    continue
                reached.add(other)
                separator = self.cliques[k] & self.cliques[other]
                new = entered | separator | {i}
                through = self._added(self.cliques[k], new)
                if i in self.cliques[k]:  # where the path starts: at most replaced by what follows
                    through -= _cells(self.sizes, new)
                stack.append((other, separator, before + through))
                yield self.cliques[other], separator, before + through

    def _added(self, clique: Clique, new: Clique | set[int]) -> int:
        """Return the cells of a new clique, less those of an old one that it replaces."""
        return _cells(self.sizes, new) - (_cells(self.sizes, clique) if clique <= new else 0)

    def _path(self, i: int, j: int) -> list[Clique]:
        """Return the new cliques of carrying i to j."""
        came: dict[int, int] = {}
        start = [k for k, clique in enumerate(self.cliques) if i in clique]
        stack = list(start)
        reached = set(start)
        while stack:
            k = stack.pop()
            if j in self.cliques[k]:
                break
            for other in self._near[k]:
                if other not in reached:
                    reached.add(other)
                    came[other] = k
                    stack.append(other)
        else:
            return [Clique({i, j})]
        new, leaving = [], Clique({j})
        while k in came:
            entered = self.cliques[k] & self.cliques[came[k]]
            new.append(entered | leaving | {i})
            k, leaving = came[k], entered
        return new


def _cells(sizes: Sequence[int], axes: Iterable[int]) -> int:
    return math.prod(sizes[axis] for axis in axes)


def _maximal(cliques: Iterable[Clique]) -> Iterator[Clique]:
    """Yield each clique that is in no other, in the order of its members."""
    kept: list[Clique] = []
    for clique in sorted(set(cliques), key=len, reverse=True):
        if not any(clique <= other for other in kept):
            kept.append(clique)
    yield from sorted(kept, key=sorted)
