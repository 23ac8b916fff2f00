"""MST: a graphical model of the table from a tree of attribute pairs.

McKenna, Miklau, Sheldon, "Winning the NIST contest: a scalable and general approach to
differentially private synthetic data", arXiv 2108.04978, with a declared schedule: every one-way
marginal is measured, d − 1 edges of a spanning tree are selected, and each selected pair is
measured. The model is fitted only once, so MST is faster and less accurate than AIM. For budgets
see `privacy.plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.sections import TableSettings
from dagster_project.table import marginals
from dagster_project.table.estimation import TableFit, estimate, independent_model, require_table
from dagster_project.table.measurements import (
    TableMeasurement,
    TableSelection,
    expected_counts,
    noisy_total,
)


def fit_mst(
    codes: np.ndarray,
    *,
    sizes: Sequence[int],
    names: Sequence[str],
    n_public: int,
    measurement: TableMeasurement,
    selection: TableSelection | None,
    settings: TableSettings,
    generator: SecureGenerator,
    progress: Callable[[float, str], None] | None = None,
    tally: marginals.Tally | None = None,
) -> TableFit:
    """Fit MST to private records.

    Edges are selected in Kruskal's order: the exponential mechanism chooses among the pairs that
    join two parts of the forest, by the L1 distance between the pair's counts and those expected
    under independence (sensitivity 1, see `measurements.selection_scores`).

    Privacy (add/remove one person): the events of the two mechanisms, with 2d − 1 measurements and
    d − 1 selections. The arguments are those of `aim.fit_aim`; only `final_iterations` and
    `inference` of the settings are used.

    Raises:
        ValueError: If the shapes do not match.
    """
    require_table(codes, names=names, sizes=sizes, n_public=n_public)
    report = progress or (lambda fraction, text: None)
    one_way, exact = tally or marginals.tally(codes, sizes)
    measurements = [
        measurement.run(counts, names=(name,), generator=generator)
        for name, counts in zip(names, one_way, strict=True)
    ]
    total = noisy_total(measurements, n_public=n_public)
    independent = independent_model(measurements, sizes=sizes, total=total)
    if selection is None:
        return TableFit(model=independent, measurements=tuple(measurements))
    expected = expected_counts(independent, list(exact))
    part = list(range(len(names)))  # the forest's part that holds each attribute
    for number in range(len(names) - 1):
        report(0.5 * number / len(names), f"edge {number + 1} of {len(names) - 1}")
        pair = selection.run(
            [(i, j) for i, j in exact if part[i] != part[j]],
            exact=exact,
            expected=expected,
            sigma=0.0,
            generator=generator,
        )
        joined, kept = part[pair[1]], part[pair[0]]
        part = [kept if label == joined else label for label in part]
        pair_names = tuple(names[axis] for axis in pair)
        measurements.append(measurement.run(exact[pair], names=pair_names, generator=generator))
    report(0.5, "fitting the table model")
    model = estimate(
        measurements,
        names=names,
        sizes=sizes,
        total=total,
        iterations=settings.final_iterations,
        inference=settings.inference,
    )
    report(1.0, "table model fitted")
    return TableFit(model=model, measurements=tuple(measurements))
