"""MLflow tracking with one run per release: a copy to browse; the ledger is authoritative.

n_public is logged, never the exact number of people. No data set object is logged, because its
profile stores exact row counts; nor is the plan's hash, which would confirm a guess of the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from dagster_project.evaluation.fidelity import FidelityReport
    from dagster_project.pipeline.release import Release


@dataclass(frozen=True)
class TrackingStore:
    """Locations where MLflow stores runs and files.

    Attributes:
        uri: Tracking URI.
        artifacts: Where a new experiment stores its files.
        lock: File lock around the first initialisation, which is slow and not safe to race.
        experiment: Name of the experiment.
    """

    uri: str
    artifacts: str
    lock: Path
    experiment: str


def log_release(store: TrackingStore, release: Release, bundle: Path, *, dagster_run: str) -> str:
    """Log settings, events with their noise, manifest and model of a release as a finished run.

    A release that was logged before keeps its run, which is found by its tag.
    """
    with _client(store) as (client, experiment):
        found = client.search_runs([experiment], f"tags.release_id = '{release.id}'", max_results=1)
        if found:
            return found[0].info.run_id
        tags = {
            "release_id": release.id,
            "dagster.run_id": dagster_run,
            "ledger_head": release.ledger.head,
        }
        run = client.create_run(experiment, run_name=release.id, tags=tags).info.run_id
        for name, value in _parameters(release).items():
            client.log_param(run, name, value)
        client.log_metric(run, "epsilon", release.plan.epsilon)
        client.log_metric(run, "delta", release.plan.target_delta)
        client.log_artifact(run, str(bundle / "manifest.json"))
        client.log_artifact(run, str(release.models / "image_model.safetensors"), "model")
        client.log_artifact(run, str(release.models / "table_model" / "model.json"), "model")
        client.log_artifact(run, str(release.models / "table_model" / "model.npz"), "model")
        client.set_terminated(run)
        return run


def log_fidelity(store: TrackingStore, run: str, report: FidelityReport) -> None:
    """Log figures computed on real data; the store must be allowed to hold them."""
    from mlflow.entities import Metric

    figures = {
        name: value
        for name, value in vars(report).items()
        if isinstance(value, float) and name not in ("epsilon", "delta")
    }
    figures |= {f"correlation.{n}": v for n, v in vars(report.correlation).items()
                if isinstance(v, float)}  # fmt: skip
    with _client(store) as (client, _):
        client.log_batch(run, metrics=[Metric(n, v, 0, 0) for n, v in figures.items()])


def _parameters(release: Release) -> dict[str, Any]:
    plan = release.plan
    parameters: dict[str, Any] = {
        "n_public": plan.n_public,
        "target_epsilon": plan.target_epsilon,
        "target_delta": plan.target_delta,
        "discretization": plan.discretization,
        "code_version": plan.code_version,
    }
    for mechanism in plan.mechanisms:
        event = mechanism.to_json()["event"]
        parameters |= {f"event.{mechanism.name}.{k}": v for k, v in event.items()}
    for section, settings in plan.recipe.items():
        if isinstance(settings, Mapping):
            parameters |= {f"{section}.{k}": v for k, v in settings.items()}
    return parameters


@contextmanager
def _client(store: TrackingStore) -> Iterator[tuple[MlflowClient, str]]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from filelock import FileLock
    from mlflow import MlflowClient

    with FileLock(store.lock):
        client = MlflowClient(tracking_uri=store.uri)
        known = client.get_experiment_by_name(store.experiment)
        local = store.uri.startswith("sqlite:")
        experiment = (
            known.experiment_id
            if known
            else client.create_experiment(
                store.experiment, artifact_location=store.artifacts if local else None
            )
        )
    yield client, experiment
