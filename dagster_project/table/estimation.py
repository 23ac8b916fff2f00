"""Fitting a graphical model to noisy marginals: post-processing, free of privacy cost.

The descent is in `message_passing`, or in `mbi_inference` with the functions of `mbi`
(private-pgm). Nothing in this module may see an exact count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dagster_project.table import message_passing
from dagster_project.table.graphical_model import GraphicalModel
from dagster_project.table.junction_tree import JunctionTree
from dagster_project.table.measurements import Measurement
from dagster_project.table.message_passing import Target

Inference = Literal["numpy", "mbi"]


@dataclass(frozen=True, kw_only=True)
class TableFit:
    """The release of a table mechanism: the model and the measurements it was fitted to."""

    model: GraphicalModel
    measurements: tuple[Measurement, ...]

    def save(self, folder: Path) -> None:
        """Write the model's files, `measurements.json` and `measurements.npz`."""
        folder = Path(folder)
        self.model.save(folder)
        header = [{"names": m.names, "sigma": m.sigma} for m in self.measurements]
        text = json.dumps(header, indent=1) + "\n"
        (folder / "measurements.json").write_text(text, encoding="utf-8")
        values = {f"values_{index}": m.values for index, m in enumerate(self.measurements)}
        np.savez(folder / "measurements.npz", allow_pickle=False, **values)

    @classmethod
    def load(cls, folder: Path) -> TableFit:
        """Load a fit written by `save`, without pickle."""
        folder = Path(folder)
        header = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
        with np.load(folder / "measurements.npz", allow_pickle=False) as tables:
            measurements = tuple(
                Measurement(
                    names=tuple(item["names"]),
                    values=tables[f"values_{index}"],
                    sigma=float(item["sigma"]),
                )
                for index, item in enumerate(header)
            )
        return cls(model=GraphicalModel.load(folder), measurements=measurements)


def independent_model(
    one_way: Sequence[Measurement], *, sizes: Sequence[int], total: float
) -> GraphicalModel:
    """Return the closed-form least-squares fit to one-way marginals.

    Args:
        one_way: one measurement for each attribute, in schema order.
        sizes: number of cells of each attribute.
        total: noisy number of records.
    """
    return GraphicalModel(
        names=[m.names[0] for m in one_way],
        sizes=sizes,
        cliques=[m.names for m in one_way],
        marginals=[_on_simplex(m.values, total) for m in one_way],
        total=total,
    )


def estimate(
    measurements: Sequence[Measurement],
    *,
    names: Sequence[str],
    sizes: Sequence[int],
    total: float,
    iterations: int,
    tree: JunctionTree | None = None,
    inference: Inference = "numpy",
) -> GraphicalModel:
    """Fit a graphical model to the measurements by least squares, cells weighted by 1/σ².

    The descent starts at the independent model of the one-way measurements and runs for a fixed
    number of iterations. The result is a function of the arguments only.

    Args:
        measurements: must contain a one-way measurement of every attribute.
        names: attributes in schema order.
        sizes: number of cells of each.
        total: noisy number of records.
        iterations: number of mirror-descent steps.
        tree: a junction tree with a clique for each measurement; None makes one.
        inference: "numpy" (`message_passing`) or "mbi" (`mbi_inference`); both agree.
    """
    position = {name: axis for axis, name in enumerate(names)}
    targets, start, linked = [], [], []
    for m in measurements:
        axes = tuple(position[name] for name in m.names)
        targets.append(Target(axes, m.values, m.sigma))
        if len(axes) == 1:
            # Half a record in an empty cell keeps the logarithm finite.
            start.append(np.log(np.maximum(_on_simplex(m.values, total), 0.5)))
        else:
            start.append(np.zeros(m.values.shape))
            linked.append((axes[0], axes[1]))
    tree = tree or JunctionTree.of(sizes, linked)
    if inference == "mbi":
        from dagster_project.table import mbi_inference

        fit = mbi_inference.fit
    else:
        fit = message_passing.fit
    return GraphicalModel(
        names=names,
        sizes=sizes,
        cliques=[[names[axis] for axis in sorted(clique)] for clique in tree.cliques],
        marginals=fit(tree, targets, start, total=total, iterations=iterations),
        total=total,
    )


def _on_simplex(values: np.ndarray, total: float) -> np.ndarray:
    """The non-negative table of this total that is nearest to `values` (Euclidean)."""
    descending = np.sort(values.ravel().astype(np.float64))[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, descending.size + 1)
    # Cells above their running excess stay positive; the last such excess is the shift.
    shift = excess[np.flatnonzero(descending > excess)[-1]]
    return np.maximum(values - shift, 0.0)


def require_table(
    codes: np.ndarray, *, names: Sequence[str], sizes: Sequence[int], n_public: int
) -> None:
    """Check that the shapes of the arguments match. Reads no record.

    Raises:
        ValueError: If they do not match.
    """
    if len(set(names)) != len(names) or len(names) != len(sizes):
        raise ValueError("names must be distinct, one for each size")
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise ValueError("codes must have one column for each attribute")
    if not (math.isfinite(n_public) and n_public >= 1):
        raise ValueError("n_public must be at least 1")
