"""Fitting a graphical model to noisy marginals: post-processing, free of privacy cost.

The inference (junction trees, message passing and the loss) comes from `mbi` (private-pgm). The
descent around it is Algorithm 1 of McKenna, Sheldon, Miklau, "Graphical-model based estimation and
inference for differential privacy", 2019. The whole solve is compiled as one program in which the
message passing occurs once, since on small tables compilation takes the time, not iteration.
Nothing in this module may see an exact count.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dagster_project.table.graphical_model import GraphicalModel
from dagster_project.table.measurements import Measurement

# Up to this many cells an unoptimised program is faster, because it compiles in half the time.
_CELLS_WORTH_OPTIMISING = 20_000


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


def model_bytes(
    names: Sequence[str], sizes: Sequence[int], cliques: Sequence[Sequence[str]]
) -> float:
    """Return the bytes of a model whose junction tree must hold these cliques (float64 cells)."""
    mbi = _mbi()
    domain = mbi.Domain(tuple(names), tuple(sizes))
    megabytes = mbi.junction_tree.hypothetical_model_size(domain, [tuple(c) for c in cliques])
    return megabytes * 2**20


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
    """
    import jax

    mbi = _mbi()
    domain = mbi.Domain(tuple(names), tuple(sizes))
    tree, _ = mbi.junction_tree.make_junction_tree(domain, [m.names for m in measurements])
    cliques = tuple(mbi.junction_tree.maximal_cliques(tree))
    one_way = {m.names[0]: m for m in measurements if len(m.names) == 1}
    start = []
    unused = dict(one_way)
    for clique in cliques:
        table = np.zeros([domain[name] for name in clique])
        for axis, name in enumerate(clique):
            if (m := unused.pop(name, None)) is not None:
                # Half a record in an empty cell keeps the logarithm finite.
                log = np.log(np.maximum(_on_simplex(m.values, total), 0.5))
                table += log.reshape([-1 if k == axis else 1 for k in range(len(clique))])
        start.append(table)
    level = 0 if sum(table.size for table in start) <= _CELLS_WORTH_OPTIMISING else 2
    with jax.enable_x64(True):
        potentials = mbi.CliqueVector(
            domain,
            cliques,
            {
                clique: mbi.Factor(domain.project(clique), jax.numpy.asarray(table))
                for clique, table in zip(cliques, start, strict=True)
            },
        )
        loss = mbi.marginal_loss.from_linear_measurements(
            [
                mbi.LinearMeasurement(m.values.ravel().astype(np.float64), m.names, m.sigma)
                for m in measurements
            ],
            domain,
        )
        step = min(m.sigma for m in measurements) ** 2 / total
        solve = jax.jit(_descend, compiler_options={"xla_backend_optimization_level": level})
        fitted = solve(potentials, loss, total, step, iterations)
        marginals = [np.asarray(fitted[clique].values) for clique in cliques]
    return GraphicalModel(
        names=names, sizes=sizes, cliques=cliques, marginals=marginals, total=total
    )


def _descend(potentials: Any, loss: Any, total: float, step: float, iterations: int) -> Any:
    """Mirror descent with a backtracking step; returns the marginals on the potentials' cliques."""
    import jax
    from jax import numpy as jnp
    from mbi.marginal_oracles import message_passing_hugin

    def iterate(_: Any, state: Any) -> Any:
        theta, mu, value, gradient, step = state
        proposal = theta - step * gradient
        new_mu = message_passing_hugin(proposal, total)
        new_value, new_gradient = jax.value_and_grad(loss)(new_mu)
        # Armijo's rule. The value is infinite and the gradient zero at first, so that the starting
        # point itself is evaluated and accepted.
        accepted = value - new_value >= 0.5 * step * gradient.dot(mu - new_mu)
        old = (theta, mu, value, gradient, step * 0.5)
        new = (proposal, new_mu, new_value, new_gradient, step * 1.05)
        return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

    zero = 0.0 * potentials
    state = (potentials, zero, jnp.asarray(jnp.inf), zero, jnp.asarray(step))
    return jax.lax.fori_loop(0, iterations + 1, iterate, state)[1]


def _on_simplex(values: np.ndarray, total: float) -> np.ndarray:
    """The non-negative table of this total that is nearest to `values` (Euclidean)."""
    descending = np.sort(values.ravel().astype(np.float64))[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, descending.size + 1)
    # Cells above their running excess stay positive; the last such excess is the shift.
    shift = excess[np.flatnonzero(descending > excess)[-1]]
    return np.maximum(values - shift, 0.0)


def _mbi() -> Any:
    """Import mbi late (it starts jax), without its advice about a cache that is not used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        import mbi
    return mbi


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
