"""Fits the private table model on all training records (AIM or MST)."""

from __future__ import annotations

from pathlib import Path

from dagster_project.planning import table_counts
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.stages.pairs import load_train
from dagster_project.stages.release import Progress, Release
from dagster_project.table.aim import AimSettings, fit_aim
from dagster_project.table.estimation import TableFit
from dagster_project.table.mst import fit_mst

FILES = tuple(
    f"table_model/{name}"
    for name in ("model.json", "model.npz", "measurements.json", "measurements.npz")
)


def fit(release: Release, progress: Progress) -> bool:
    """Spends the two table mechanisms and writes `models/<id>/table_model`."""
    counts = table_counts(release.schema, release.recipe)
    selection = release.declared("table_model.selection")
    measurement = release.declared("table_model.measurement")
    executed = {
        "table_model.selection": {
            "method": release.recipe.table.method,
            "epsilon": selection["epsilon"],
            "rounds": counts.selections,
        },
        "table_model.measurement": {
            "sigma": measurement["sigma"],
            "sensitivity": 1,
            "marginals": counts.measurements,
        },
    }

    def run() -> None:
        fitted = _fit(release, measurement["sigma"], selection["epsilon"], progress)
        fitted.save(_folder(release))

    return release.once("table_model", run, executed=executed, files=FILES, parents=())


def load(release: Release) -> TableFit:
    """The released table model and its noisy measurements."""
    return TableFit.load(_folder(release))


def _folder(release: Release) -> Path:
    return release.models / "table_model"


def _fit(release: Release, sigma: float, selection_epsilon: float, progress: Progress) -> TableFit:
    settings, schema = release.recipe.table, release.schema
    codes = load_train(release).codes
    if settings.method == "mst":
        return fit_mst(
            codes,
            sizes=schema.sizes,
            names=schema.names,
            n_public=release.plan.n_public,
            sigma=sigma,
            selection_epsilon=selection_epsilon,
            generator=SecureGenerator(),
            iterations=settings.final_iterations,
            progress=progress,
        )
    return fit_aim(
        codes,
        sizes=schema.sizes,
        names=schema.names,
        n_public=release.plan.n_public,
        sigma=sigma,
        selection_epsilon=selection_epsilon,
        settings=AimSettings(
            rounds=table_counts(schema, release.recipe).selections,
            selections_per_fit=settings.selections_per_fit or max(1, len(schema.sizes) // 2),
            iterations=settings.iterations,
            final_iterations=settings.final_iterations,
            max_model_bytes=settings.max_model_bytes,
        ),
        generator=SecureGenerator(),
        progress=progress,
    )
