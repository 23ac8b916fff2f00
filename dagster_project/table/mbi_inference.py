"""The fit of `message_passing` by `mbi` (private-pgm), whose message passing and loss it compiles.

The whole solve is one program in which the message passing occurs once, since compilation takes
the time, not iteration: two seconds for 8 attributes, half a minute for 60.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from dagster_project.table.junction_tree import JunctionTree
from dagster_project.table.message_passing import Target, spread

# Up to this many cells an unoptimised program is faster, because it compiles in half the time.
_CELLS_WORTH_OPTIMISING = 20_000


def fit(
    tree: JunctionTree,
    targets: Sequence[Target],
    start: Sequence[np.ndarray],
    *,
    total: float,
    iterations: int,
) -> list[np.ndarray]:
    """Return the marginals of the tree's cliques; see `message_passing.fit`."""
    import jax

    mbi = _mbi()
    domain = mbi.Domain([str(axis) for axis in range(len(tree.sizes))], tree.sizes)
    ordered = [tuple(sorted(clique)) for clique in tree.cliques]
    cliques = [tuple(map(str, axes)) for axes in ordered]
    tables = {name: np.zeros(domain.project(name).shape) for name in cliques}
    for target, potential in zip(targets, start, strict=True):
        home = next(axes for axes in ordered if set(target.axes) <= set(axes))
        tables[tuple(map(str, home))] += spread(potential, target.axes, home)
    level = 0 if tree.cells <= _CELLS_WORTH_OPTIMISING else 2
    with jax.enable_x64(True):
        factors = {
            name: mbi.Factor(domain.project(name), jax.numpy.asarray(table))
            for name, table in tables.items()
        }
        loss = mbi.marginal_loss.from_linear_measurements(
            [
                mbi.LinearMeasurement(
                    target.values.ravel().astype(np.float64),
                    tuple(map(str, target.axes)),
                    target.sigma,
                )
                for target in targets
            ],
            domain,
        )
        step = min(target.sigma for target in targets) ** 2 / total
        solve = jax.jit(
            partial(_descend, jtree=_as_graph(cliques, tree.parents)),
            compiler_options={"xla_backend_optimization_level": level},
        )
        fitted = solve(mbi.CliqueVector(domain, cliques, factors), loss, total, step, iterations)
        return [np.asarray(fitted[name].values) for name in cliques]


def _descend(
    potentials: Any, loss: Any, total: float, step: float, iterations: int, *, jtree: Any
) -> Any:
    """Mirror descent with a backtracking step; returns the marginals on the potentials' cliques."""
    import jax
    from jax import numpy as jnp
    from mbi.marginal_oracles import message_passing_hugin

    def iterate(_: Any, state: Any) -> Any:
        theta, mu, value, gradient, step = state
        proposal = theta - step * gradient
        new_mu = message_passing_hugin(proposal, total, jtree)
        new_value, new_gradient = jax.value_and_grad(loss)(new_mu)
        # Armijo's rule. The value is infinite and the gradient zero at first, so that the starting
        # point itself is evaluated and accepted, at the step after which it is tried.
        accepted = value - new_value >= 0.5 * step * gradient.dot(mu - new_mu)
        old = (theta, mu, value, gradient, step * 0.5)
        new = (proposal, new_mu, new_value, new_gradient, step * 1.05)
        return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

    zero = 0.0 * potentials
    state = (potentials, zero, jnp.asarray(jnp.inf), zero, jnp.asarray(step / 1.05))
    return jax.lax.fori_loop(0, iterations + 1, iterate, state)[1]


def _as_graph(cliques: Sequence[tuple[str, ...]], parents: Sequence[int | None]) -> Any:
    """Return the tree as mbi's message passing takes it."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(cliques)
    graph.add_edges_from(
        (clique, cliques[parent])
        for clique, parent in zip(cliques, parents, strict=True)
        if parent is not None
    )
    return graph


def _mbi() -> Any:
    """Import mbi late (it starts jax), without its advice about a cache that is not used here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        import mbi
    return mbi
