"""MLflow tracking with one run per release: a copy to browse; the ledger is authoritative.

n_public is logged, never the exact number of people. The data set is logged by its name and the
keyed name of its version, without a profile, which would store exact row counts; the plan's hash is
not logged, because it would confirm a guess of the data.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.planning.provenance import git_facts

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

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


def log_release(
    store: TrackingStore, release: Release, bundle: Path, *, dagster_run: str, data_version: str
) -> str:
    """Log a release as a finished run: settings, events with their noise, the data by name,
    manifest, card, preview pictures and a registered model that draws pairs.

    A release that was logged before keeps its run, which is found by its tag.

    Args:
        store: Where to log.
        release: The release.
        bundle: Its bundle.
        dagster_run: Id of the Dagster run.
        data_version: Keyed name of the version of the data.
    """
    with _client(store) as (client, experiment):
        found = client.search_runs([experiment], f"tags.release_id = '{release.id}'", max_results=1)
        if found:
            return found[0].info.run_id
        tags = {
            "release_id": release.id,
            "dagster.run_id": dagster_run,
            "ledger_head": release.ledger.head,
            "mlflow.source.name": "dptabimage release",
            "mlflow.source.type": "LOCAL",
            **_commit(),
        }
        run = client.create_run(experiment, run_name=release.id, tags=tags).info.run_id
        client.log_inputs(run, [_dataset(release, data_version)])
        for name, value in _parameters(release).items():
            client.log_param(run, name, value)
        client.log_metric(run, "epsilon", release.plan.epsilon)
        client.log_metric(run, "delta", release.plan.target_delta)
        client.log_artifact(run, str(bundle / "manifest.json"))
        client.log_artifact(run, str(bundle / "README.md"))
        client.log_artifacts(run, str(bundle / "previews"), "previews")
        _log_model(client, store, run, release, bundle)
        client.set_terminated(run)
        return run


def _commit() -> dict[str, str]:
    commit = git_facts().get("git_commit")
    return {"mlflow.source.git.commit": str(commit)} if commit else {}


def _dataset(release: Release, keyed: str) -> DatasetInput:
    """Return the run's input: the name of the data and the keyed name of its version."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(
        Dataset(
            name=release.schema.name,
            digest=keyed[:32],  # MLflow takes no more than 36
            source_type="dvc",
            source=json.dumps({"keyed_version": keyed}),
        ),
        tags=[InputTag("mlflow.data.context", "training")],
    )


def _log_model(
    client: MlflowClient, store: TrackingStore, run: str, release: Release, bundle: Path
) -> None:
    """Log the released models as a pyfunc model that draws pairs, and register it.

    The model's code is stored as text and its numbers as safetensors and npz, so that nothing is
    pickled.
    """
    import mlflow

    from dagster_project.pipeline import detail_model, table_model

    stated = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        models = Path(scratch) / "models"
        for name in (*detail_model.model_files(release), *table_model.FILES):
            (models / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(release.models / name, models / name)
        public = {name: stated[name] for name in ("release_id", "settings", "schema")}
        (models / "release.json").write_text(json.dumps(public), encoding="utf-8")
        mlflow.pyfunc.save_model(
            str(Path(scratch) / "pairs"),
            python_model=str(Path(__file__).with_name("pair_model.py")),
            artifacts={"models": str(models)},
            pip_requirements=[f"dp-tabimage=={version('dp-tabimage')}"],
        )
        client.log_artifacts(run, str(Path(scratch) / "pairs"), "pairs")
    with suppress(mlflow.exceptions.MlflowException):  # it exists from an earlier release
        client.create_registered_model(store.experiment)
    source = f"{client.get_run(run).info.artifact_uri}/pairs"
    client.create_model_version(store.experiment, source, run, tags={"release_id": release.id})


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
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
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
