"""Fits the private table model on all training records (AIM or MST).

If the semantic query is a column, the most likely public label of a person's image is one more
column of that person's row. It is measured and selected like any other, at the same sensitivity,
and does not appear in any released table.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dagster_project.data.progress import Progress, part
from dagster_project.pipeline import statistics
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Drawable, Release
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table import aim
from dagster_project.table.estimation import TableFit
from dagster_project.table.latent_column import hide_last
from dagster_project.table.marginals import Tally
from dagster_project.table.measurements import TableMeasurement, TableSelection, table_sizes
from dagster_project.table.mst import fit_mst

LABEL = "__public_label__"  # name of the hidden column
FILES = tuple(
    f"table_model/{name}"
    for name in ("model.json", "model.npz", "measurements.json", "measurements.npz")
)


def fit(release: Release, progress: Progress) -> bool:
    """Spend the two table mechanisms and write `models/<id>/table_model`."""
    measurement = release.mechanism(TableMeasurement)
    selection = None
    if release.spends(TableSelection.name):
        selection = release.mechanism(TableSelection)
    used = [mechanism for mechanism in (selection, measurement) if mechanism]

    def run(exact: tuple[np.ndarray, Tally]) -> None:
        generator = SecureGenerator()
        fitted = _fit(release, exact, measurement, selection, generator, progress)
        for mechanism in used:
            mechanism.verify(generator.uses)
        fitted.save(_folder(release))

    executed = {mechanism.name: mechanism.parameters() for mechanism in used}
    return release.once(
        "table_model",
        run,
        executed=executed,
        files=FILES,
        parents=(),
        prepare=lambda: _count(release, progress),
    )


def load(release: Drawable) -> TableFit:
    """Load the released table model and noisy measurements of the schema's columns."""
    whole = load_whole(release)
    return hide_last(whole) if release.recipe.label_cells else whole


def load_whole(release: Drawable) -> TableFit:
    """Load the same with the column of public labels last, if there is one."""
    return TableFit.load(_folder(release))


def _folder(release: Drawable) -> Path:
    return release.models / "table_model"


def _count(release: Release, progress: Progress) -> tuple[np.ndarray, Tally]:
    """Return everybody's codes, with public labels if asked, and the exact counts. Private."""
    codes, sizes = load_train(release).codes, table_sizes(release.schema, release.recipe)
    with release.compute.open_workers() as workers:
        if release.recipe.label_cells:
            told = part(progress, 0.0, 0.5)
            labels = statistics.top_labels(release, 1, len(codes), workers, told)
            codes = np.column_stack([codes, labels])
        return codes, statistics.tally(codes, sizes, workers=workers)


def _fit(
    release: Release,
    exact: tuple[np.ndarray, Tally],
    measurement: TableMeasurement,
    selection: TableSelection | None,
    generator: SecureGenerator,
    progress: Progress,
) -> TableFit:
    settings, names = release.recipe.table, release.schema.names
    fit_model = fit_mst if settings.method == "mst" else aim.fit_aim
    return fit_model(
        exact[0],
        sizes=table_sizes(release.schema, release.recipe),
        names=(*names, LABEL) if release.recipe.label_cells else names,
        n_public=release.plan.n_public,
        measurement=measurement,
        selection=selection,
        settings=settings,
        generator=generator,
        progress=progress,
        tally=exact[1],
    )
