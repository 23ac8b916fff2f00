"""Fits the private table model on all training records (AIM or MST).

Where the recipe asks the semantic query as a column, the most likely public label of a person's
picture is one more column of that person's row. It is measured and selected like any other, at the
same sensitivity, and no released table has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dagster_project.mechanisms import table_counts, table_sizes
from dagster_project.pairs.progress import Progress
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.stages import public_images
from dagster_project.stages.pairs import load_train
from dagster_project.stages.release import Release
from dagster_project.table.aim import AimSettings, fit_aim
from dagster_project.table.estimation import TableFit
from dagster_project.table.latent_column import hide_last
from dagster_project.table.mst import fit_mst

LABEL = "__public_label__"  # name of the hidden column
FILES = tuple(
    f"table_model/{name}"
    for name in ("model.json", "model.npz", "measurements.json", "measurements.npz")
)


def fit(release: Release, progress: Progress) -> bool:
    """Spends the two table mechanisms and writes `models/<id>/table_model`."""
    counts = table_counts(release.schema, release.recipe)
    measurement = release.declared("table_model.measurement")
    executed: dict[str, dict[str, Any]] = {
        "table_model.measurement": {
            "sigma": measurement["sigma"],
            "sensitivity": 1,
            "marginals": counts.measurements,
        },
    }
    selection_epsilon = 0.0
    if counts.selections:
        selection_epsilon = release.declared("table_model.selection")["epsilon"]
        executed["table_model.selection"] = {
            "method": release.recipe.table.method,
            "epsilon": selection_epsilon,
            "rounds": counts.selections,
        }

    def run() -> None:
        fitted = _fit(release, measurement["sigma"], selection_epsilon, progress)
        fitted.save(_folder(release))

    return release.once("table_model", run, executed=executed, files=FILES, parents=())


def load(release: Release) -> TableFit:
    """The released table model and its noisy measurements, of the schema's columns."""
    whole = load_whole(release)
    return hide_last(whole) if release.recipe.label_cells else whole


def load_whole(release: Release) -> TableFit:
    """The same with the column of public labels last, where there is one."""
    return TableFit.load(_folder(release))


def _folder(release: Release) -> Path:
    return release.models / "table_model"


def _fit(release: Release, sigma: float, selection_epsilon: float, progress: Progress) -> TableFit:
    settings, schema = release.recipe.table, release.schema
    codes = load_train(release).codes
    sizes, names = table_sizes(schema, release.recipe), schema.names
    if release.recipe.label_cells:
        codes = np.column_stack([codes, _labels(release, lambda f, text: progress(0.5 * f, text))])
        names = (*names, LABEL)
    if settings.method == "mst":
        return fit_mst(
            codes,
            sizes=sizes,
            names=names,
            n_public=release.plan.n_public,
            sigma=sigma,
            selection_epsilon=selection_epsilon,
            generator=SecureGenerator(),
            iterations=settings.final_iterations,
            progress=progress,
        )
    return fit_aim(
        codes,
        sizes=sizes,
        names=names,
        n_public=release.plan.n_public,
        sigma=sigma,
        selection_epsilon=selection_epsilon,
        settings=AimSettings(
            rounds=table_counts(schema, release.recipe).selections,
            selections_per_fit=settings.selections_per_fit or max(1, len(sizes) // 2),
            iterations=settings.iterations,
            final_iterations=settings.final_iterations,
            max_model_bytes=settings.max_model_bytes,
        ),
        generator=SecureGenerator(),
        progress=progress,
    )


def _labels(release: Release, progress: Progress) -> np.ndarray:
    """The most likely public label of each person's picture, int16 (N,). Private."""
    classifier = public_images.load_classifier(release)
    return classifier.top(load_train(release).images, 1, progress)[:, 0]
