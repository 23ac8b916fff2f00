"""Least squares over a junction tree by mirror descent, in numpy.

The descent is Algorithm 1 of McKenna, Sheldon, Miklau, "Graphical-model based estimation and
inference for differential privacy", 2019, with Armijo's rule for the step; the marginals come from
two passes of messages over the tree (Koller, Friedman, "Probabilistic graphical models", 2009,
section 10.3). It agrees with `mbi_inference` and compiles nothing, which takes that one half a
minute for 60 attributes. A potential is kept for each measurement, not for each clique, so a large
model needs one table for each clique and no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dagster_project.table.junction_tree import JunctionTree

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A noisy marginal.

    Attributes:
        axes: Positions of its attributes.
        values: Noisy counts, one axis for each attribute.
        sigma: Standard deviation of their noise.
    """

    axes: Axes
    values: np.ndarray
    sigma: float


def fit(
    tree: JunctionTree,
    targets: Sequence[Target],
    start: Sequence[np.ndarray],
    *,
    total: float,
    iterations: int,
) -> list[np.ndarray]:
    """Return the marginals of the tree's cliques that minimise the targets' squared errors / σ².

    Args:
        tree: A junction tree with a clique for each target.
        targets: The noisy marginals.
        start: The initial potential (logarithm) of each target, in its shape.
        total: Number of records.
        iterations: Number of steps tried.

    Returns:
        A table of probabilities for each clique, axes by position.
    """
    passing = _Passing(tree, [target.axes for target in targets])
    weights = [1 / target.sigma**2 for target in targets]

    def evaluate(potentials: list[np.ndarray]) -> tuple[list[np.ndarray], float, list[np.ndarray]]:
        """Return the expected counts of the targets, the loss and its gradient."""
        counts = [total * table for table in passing.marginals(potentials)]
        errors = [c - target.values for c, target in zip(counts, targets, strict=True)]
        gradient = [w * error for w, error in zip(weights, errors, strict=True)]
        loss = 0.5 * sum(float(np.vdot(g, e)) for g, e in zip(gradient, errors, strict=True))
        return counts, loss, gradient

    potentials, step = list(start), min(target.sigma for target in targets) ** 2 / total
    counts, loss, gradient = evaluate(potentials)
    for _ in range(iterations):
        proposal = [p - step * g for p, g in zip(potentials, gradient, strict=True)]
        found = evaluate(proposal)
        moved = sum(
            float(np.vdot(g, old - new))
            for g, old, new in zip(gradient, counts, found[0], strict=True)
        )
        if loss - found[1] >= 0.5 * step * moved:
            potentials, step = proposal, step * 1.05
            counts, loss, gradient = found
        else:
            step *= 0.5
    return passing.cliques(potentials)


class _Passing:
    """Messages over a junction tree, with one potential for each of some marginals.

    A clique's axes are ordered with those that it shares with its parent first, so that a message
    is a sum over rows of a matrix.
    """

    def __init__(self, tree: JunctionTree, marginals: Sequence[Axes]) -> None:
        self._tree = tree
        self._axes: list[Axes] = []
        self._shared: list[Axes] = []
        for clique, parent in zip(tree.cliques, tree.parents, strict=True):
            shared = tuple(sorted(clique & tree.cliques[parent])) if parent is not None else ()
            self._shared.append(shared)
            self._axes.append((*shared, *sorted(clique.difference(shared))))
        self._shapes = [tuple(tree.sizes[axis] for axis in axes) for axes in self._axes]
        self._marginals = list(marginals)
        # A marginal within another one takes its sums from there, and adds its potential there.
        self._order = sorted(range(len(marginals)), key=lambda m: -len(marginals[m]))
        self._hosts: dict[int, int] = {}
        self._homes: dict[int, int] = {}
        smallest = sorted(range(len(tree.cliques)), key=lambda k: math.prod(self._shapes[k]))
        for place, m in enumerate(self._order):
            members = set(marginals[m])
            host = next((o for o in self._order[:place] if members <= set(marginals[o])), None)
            if host is not None:
                self._hosts[m] = host
            else:
                self._homes[m] = next(k for k in smallest if members <= tree.cliques[k])

    def cliques(self, potentials: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the marginals of all cliques, axes by position."""
        return [
            table.transpose(np.argsort(axes))
            for table, axes in zip(self._pass(potentials), self._axes, strict=True)
        ]

    def marginals(self, potentials: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the marginals that have potentials, in their order."""
        tables = self._pass(potentials)
        found: dict[int, np.ndarray] = {}
        for m in self._order:
            wanted = self._marginals[m]
            if (host := self._hosts.get(m)) is not None:
                found[m] = _summed(found[host], self._marginals[host], wanted)
            else:
                found[m] = _summed(tables[self._homes[m]], self._axes[self._homes[m]], wanted)
        return [found[m] for m in range(len(self._marginals))]

    def _pass(self, potentials: Sequence[np.ndarray]) -> list[np.ndarray]:
        gathered = list(potentials)
        for m in reversed(self._order):
            if (host := self._hosts.get(m)) is not None:
                gathered[host] = gathered[host] + spread(
                    gathered[m], self._marginals[m], self._marginals[host]
                )
        tables = [np.zeros(shape) for shape in self._shapes]
        for m, home in self._homes.items():
            tables[home] += spread(gathered[m], self._marginals[m], self._axes[home])
        for k in reversed(range(len(tables))):  # to the roots: P(clique | its separator)
            rows = tables[k].reshape(math.prod(self._shapes[k][: len(self._shared[k])]), -1)
            highest = rows.max(axis=1, keepdims=True)
            np.subtract(rows, highest, out=rows)
            np.exp(rows, out=rows)
            sums = rows.sum(axis=1, keepdims=True)
            rows /= sums
            parent = self._tree.parents[k]
            if parent is not None:
                message = (highest + np.log(sums)).reshape(self._shapes[k][: len(self._shared[k])])
                tables[parent] += spread(message, self._shared[k], self._axes[parent])
        for k, parent in enumerate(self._tree.parents):  # from the roots
            if parent is not None:
                above = _summed(tables[parent], self._axes[parent], self._shared[k])
                tables[k] *= above.reshape(above.shape + (1,) * (tables[k].ndim - above.ndim))
        return tables


def spread(table: np.ndarray, axes: Axes, over: Axes) -> np.ndarray:
    """Return a table as one that can be added to a table of more axes, in their order."""
    ordered = table.transpose([axes.index(axis) for axis in over if axis in axes])
    sizes = iter(ordered.shape)
    return ordered.reshape([next(sizes) if axis in axes else 1 for axis in over])


def _summed(table: np.ndarray, axes: Axes, wanted: Axes) -> np.ndarray:
    """Return the sums over all axes but the wanted ones, in their order."""
    rest = tuple(k for k, axis in enumerate(axes) if axis not in wanted)
    left = [axis for axis in axes if axis in wanted]
    sums = table.sum(axis=rest) if rest else table
    return sums.transpose([left.index(axis) for axis in wanted])
