"""A table model with a latent last column, which explains the others and is never released.

It is used when the public label of an image is measured with the table. The hidden column is not
summed out of the cliques, which could make them large, but is left out of samples and marginals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dagster_project.table.estimation import TableFit
from dagster_project.table.graphical_model import GraphicalModel


class VisiblePart(GraphicalModel):
    """A graphical model without its last column.

    Args:
        whole: The model of all columns.
    """

    def __init__(self, whole: GraphicalModel) -> None:
        self._whole = whole
        self.names, self.sizes = whole.names[:-1], whole.sizes[:-1]
        self.cliques, self.marginals, self.total = whole.cliques, whole.marginals, whole.total

    def marginal(self, names: Sequence[str]) -> np.ndarray:
        """Return P(A_names); see `GraphicalModel.marginal`."""
        if not set(names) <= set(self.names):
            raise ValueError(f"{tuple(names)} are not distinct attributes of the model")
        return self._whole.marginal(names)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` records of the visible columns; see `GraphicalModel.sample`."""
        return self._whole.sample(n, rng)[:, :-1]

    def given(self, allowed: Mapping[str, np.ndarray]) -> tuple[GraphicalModel | None, float]:
        """Return the model given allowed cells, and their share; see `GraphicalModel.given`."""
        narrowed, share = self._whole.given(allowed)
        return None if narrowed is None else VisiblePart(narrowed), share


def hide_last(fit: TableFit) -> TableFit:
    """Return the fit without its last column, in the model and in the measurements."""
    hidden = fit.model.names[-1]
    return TableFit(
        model=VisiblePart(fit.model),
        measurements=tuple(m for m in fit.measurements if hidden not in m.names),
    )
