"""A discrete distribution over records, held as the marginals of a junction tree's cliques.

It provides what a release needs from the table model (marginals, conditionals and exact sampling)
and uses only numpy. `estimation` fits it to noisy measurements. The distribution is the product of
the clique marginals over the separator marginals (Koller, Friedman, "Probabilistic graphical
models", 2009, section 10.2).
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np


class GraphicalModel:
    """The distribution P(A_1..A_d) = Π_c P(A_c) / Π_s P(A_s) over coded records.

    Args:
        names: the attributes, in schema order.
        sizes: number of cells of each.
        cliques: attributes of each clique, ordered so that the attributes a clique shares with all
            earlier ones lie in a single earlier one (running intersection).
        marginals: a non-negative table for each clique, axes in its order, normalised here. They
            must agree on shared attributes.
        total: estimated number of records, never the exact one.

    Raises:
        ValueError: If the cliques miss an attribute, lack the running intersection property, or
            do not fit the tables.
    """

    def __init__(
        self,
        *,
        names: Sequence[str],
        sizes: Sequence[int],
        cliques: Sequence[Sequence[str]],
        marginals: Sequence[np.ndarray],
        total: float,
    ) -> None:
        self.names = tuple(names)
        self.sizes = tuple(int(size) for size in sizes)
        self.cliques = tuple(tuple(clique) for clique in cliques)
        self.total = float(total)
        size_of = dict(zip(self.names, self.sizes, strict=True))
        if {name for clique in self.cliques for name in clique} != set(self.names):
            raise ValueError("the cliques do not cover exactly the attributes")
        if not (math.isfinite(self.total) and self.total > 0):
            raise ValueError("the total must be a positive number")
        self.marginals = []
        for clique, table in zip(self.cliques, marginals, strict=True):
            if table.shape != tuple(size_of[name] for name in clique):
                raise ValueError(f"the table of clique {clique} has shape {table.shape}")
            table = np.asarray(table, dtype=np.float64)
            mass = table.sum()
            if not (math.isfinite(mass) and mass > 0 and table.min() >= 0):
                raise ValueError(f"the table of clique {clique} is not a distribution")
            # Normalised only once: a saved model must load bit for bit.
            self.marginals.append(table if abs(mass - 1) < 1e-12 else table / mass)
        self._parents = [self._parent(index) for index in range(len(self.cliques))]

    def _separator(self, index: int) -> tuple[str, ...]:
        earlier = {name for clique in self.cliques[:index] for name in clique}
        return tuple(name for name in self.cliques[index] if name in earlier)

    def _parent(self, index: int) -> int | None:
        """Return the index of the clique's parent; None for the root of a component."""
        separator = set(self._separator(index))
        if not separator:
            return None
        for earlier in range(index):
            if separator <= set(self.cliques[earlier]):
                return earlier
        raise ValueError("the cliques do not have the running intersection property")

    @cached_property
    def _conditionals(self) -> list[np.ndarray]:
        """P(clique | its separator) for each clique, axes in the clique's order."""
        tables = []
        for index, (clique, table) in enumerate(zip(self.cliques, self.marginals, strict=True)):
            separator = self._separator(index)
            residual = _residual(clique, separator)
            mass = table.sum(axis=residual, keepdims=True)
            # A separator cell without mass is never reached, so any distribution will do there.
            uniform = 1 / math.prod(table.shape[axis] for axis in residual)
            tables.append(np.where(mass > 0, table / np.where(mass > 0, mass, 1), uniform))
        return tables

    def marginal(self, names: Sequence[str]) -> np.ndarray:
        """Return P(A_names), float64, axes in the order of `names`, by variable elimination.

        Raises:
            ValueError: If a name is unknown or occurs twice.
        """
        names = tuple(names)
        if len(set(names)) != len(names) or not set(names) <= set(self.names):
            raise ValueError(f"{names} are not distinct attributes of the model")
        for clique, table in zip(self.cliques, self.marginals, strict=True):
            if set(names) <= set(clique):
                return _contract([(table, clique)], names)
        # From the leaves up: each subtree is passed to its parent as one table over the separator
        # and the wanted attributes below. Branches without a wanted attribute sum to one.
        inbox: list[list[tuple[np.ndarray, tuple[str, ...]]]] = [[] for _ in self.cliques]
        roots: list[tuple[np.ndarray, tuple[str, ...]]] = []
        for index in reversed(range(len(self.cliques))):
            separator = self._separator(index)
            factors = [(self._conditionals[index], self.cliques[index]), *inbox[index]]
            present = {name for _, scope in factors for name in scope}
            wanted = [name for name in names if name in present and name not in separator]
            if not wanted:
                continue
            scope = (*separator, *wanted)
            parent = self._parents[index]
            (roots if parent is None else inbox[parent]).append((_contract(factors, scope), scope))
        return _contract(roots, names)

    def conditional_blocks(self) -> np.ndarray:
        """Return the distribution of every attribute given one: the soft records of mean pairs.

        Returns:
            float64 (Σ sizes, Σ sizes). Row (i, j) is the record of cell j of attribute i: its block
            for attribute k holds P(A_k | A_i = j), and is one-hot for k = i (Chen et al.,
            DP-TabImage, arXiv 2609.00708). A cell with probability zero gets the unconditional
            P(A_k).
        """
        offsets = np.cumsum([0, *self.sizes])
        blocks = np.eye(offsets[-1])
        spans = [slice(start, end) for start, end in itertools.pairwise(offsets)]
        alone = [self.marginal((name,)) for name in self.names]
        for i, first in enumerate(self.names):
            for k in range(i + 1, len(self.names)):
                joint = self.marginal((first, self.names[k]))
                blocks[spans[i], spans[k]] = _given_rows(joint, alone[k])
                blocks[spans[k], spans[i]] = _given_rows(joint.T, alone[i])
        return blocks

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` independent records by ancestral sampling down the junction tree.

        The randomness is public. The same seed gives the same records in every process.

        Returns:
            Cell codes, int16 (n, d), columns in schema order.
        """
        codes = np.zeros((n, len(self.names)), dtype=np.int16)
        column = {name: position for position, name in enumerate(self.names)}
        size_of = dict(zip(self.names, self.sizes, strict=True))
        for index, clique in enumerate(self.cliques):
            separator = self._separator(index)
            residual = tuple(name for name in clique if name not in separator)
            if not residual:
                continue
            table = _contract([(self._conditionals[index], clique)], separator + residual)
            table = table.reshape(math.prod(size_of[name] for name in separator), -1)
            given = np.zeros(n, dtype=np.intp)
            for name in separator:
                given = given * size_of[name] + codes[:, column[name]]
            cell = _draw(table, given, rng.random(n))
            for name in reversed(residual):
                cell, codes[:, column[name]] = np.divmod(cell, size_of[name])
        return codes

    def given(self, allowed: Mapping[str, np.ndarray]) -> tuple[GraphicalModel | None, float]:
        """Return the distribution of records whose cells are allowed, and their share.

        One pass from the leaves up sums out what is not allowed, and one down restores the clique
        marginals (Koller, Friedman 2009, section 10.2.2, with evidence).

        Args:
            allowed: By attribute, the cells that a record may have: bool (cells,). An attribute
                that is not named may have any.

        Returns:
            The conditional model, None if no record is possible, and the probability of such a
            record.
        """
        tables, share = [table.copy() for table in self._conditionals], 1.0
        for table, clique in zip(tables, self.cliques, strict=True):
            for axis, name in enumerate(clique):
                if name in allowed:
                    shape = [-1 if other == axis else 1 for other in range(table.ndim)]
                    table *= np.asarray(allowed[name], dtype=np.float64).reshape(shape)
        for index in reversed(range(len(tables))):
            # The separator's attributes stand in the clique's order, so axes need no sorting.
            table, clique, separator = tables[index], self.cliques[index], self._separator(index)
            message, parent = _contract([(table, clique)], separator), self._parents[index]
            if parent is None:
                share *= float(message)
            else:
                above = self.cliques[parent]
                tables[parent] = np.einsum(
                    tables[parent], range(len(above)),
                    message, [above.index(name) for name in separator], range(len(above)),
                )  # fmt: skip
            spread = np.expand_dims(message, _residual(clique, separator))
            tables[index] = np.where(spread > 0, table / np.where(spread > 0, spread, 1), 0)
        if not share > 0:
            return None, 0.0
        for index, clique in enumerate(self.cliques):
            parent, separator = self._parents[index], self._separator(index)
            if parent is not None:
                mass = _contract([(tables[parent], self.cliques[parent])], separator)
                tables[index] = tables[index] * np.expand_dims(mass, _residual(clique, separator))
        narrowed = GraphicalModel(
            names=self.names,
            sizes=self.sizes,
            cliques=self.cliques,
            marginals=tables,
            total=self.total * share,
        )
        return narrowed, share

    def save(self, folder: Path) -> None:
        """Write `model.json` and `model.npz` (clique marginals, float64) into a new folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        header = {
            "names": self.names,
            "sizes": self.sizes,
            "cliques": self.cliques,
            "total": self.total,
        }
        (folder / "model.json").write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
        tables = {f"clique_{index}": table for index, table in enumerate(self.marginals)}
        np.savez(folder / "model.npz", allow_pickle=False, **tables)

    @classmethod
    def load(cls, folder: Path) -> GraphicalModel:
        """Load a model written by `save`, without pickle.

        Raises:
            ValueError: If the files do not describe a model.
        """
        folder = Path(folder)
        header = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if set(header) != {"names", "sizes", "cliques", "total"}:
            raise ValueError(f"{folder / 'model.json'} does not describe a table model")
        with np.load(folder / "model.npz", allow_pickle=False) as tables:
            marginals = [tables[f"clique_{index}"] for index in range(len(header["cliques"]))]
        return cls(marginals=marginals, **header)


def _residual(clique: Sequence[str], separator: Sequence[str]) -> tuple[int, ...]:
    """Return the axes of a clique's table that its separator lacks."""
    return tuple(axis for axis, name in enumerate(clique) if name not in separator)


def _contract(
    factors: Sequence[tuple[np.ndarray, Sequence[str]]], scope: Sequence[str]
) -> np.ndarray:
    """Multiply factors (table, attributes) and sum out the attributes not in `scope`."""
    label: dict[str, int] = {}
    operands: list[Any] = []
    for table, names in factors:
        operands += [table, [label.setdefault(name, len(label)) for name in names]]
    return np.einsum(*operands, [label[name] for name in scope], optimize=len(factors) > 2)


def _given_rows(joint: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Normalise the rows of a joint table; a row without mass becomes `otherwise`."""
    mass = joint.sum(axis=1, keepdims=True)
    return np.where(mass > 0, joint / np.where(mass > 0, mass, 1), otherwise)


def _draw(table: np.ndarray, row: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw one cell of `table[row[i]]` for each i, with the row's probabilities, by inversion."""
    levels = np.cumsum(table, axis=1)
    levels /= levels[:, -1:]
    # Row r's levels are shifted to (r, r + 1], so that one sorted search serves all rows.
    levels += np.arange(len(table))[:, None]
    found = np.searchsorted(levels.ravel(), row + uniform, side="right")
    first = row * table.shape[1]
    return np.minimum(found, first + table.shape[1] - 1) - first
