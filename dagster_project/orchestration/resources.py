"""One resource per external dependency: data, ledger, MLflow, compute, the folders of a release.

Resources find and open things; they make no decisions. What a stage does is in `pipeline`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import dagster as dg
from pydantic import Field, create_model

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.data.versions import DataVersion
    from dagster_project.evaluation.fidelity import FidelityReport
    from dagster_project.ledger import Ledger
    from dagster_project.ledger.population import Population
    from dagster_project.pipeline.release import Compute as ComputeSettings
    from dagster_project.pipeline.release import Release
    from dagster_project.privacy.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
Kind = TypeVar("Kind", bound=dg.ConfigurableResource)


def placed(resource: type[Kind], root: Path) -> Kind:
    """Return a resource whose relative paths start from `root` unless a run states another root.

    The root is the default of the class. The arguments of an instance are one default as a whole,
    which Dagster drops as soon as a run's configuration sets any field.
    """
    field = Field(str(root), description="Folder that relative paths start from.")
    return create_model(resource.__name__, __base__=resource, root=(str, field))()


def _inside(root: str, path: str) -> Path:
    return (Path(root) / path).resolve() if not os.path.isabs(path) else Path(path)


class DataSet(dg.ConfigurableResource):
    """The private data and its public contract."""

    folder: str = Field("data", description="Folder of the records, with `<folder>.dvc` beside it.")
    root: str = Field(str(ROOT), description="Folder that relative paths start from.")

    @property
    def path(self) -> Path:
        """The data folder. Links are not resolved, because reading refuses them."""
        return Path(self.root) / self.folder

    def schema(self) -> Schema:
        """Load the public contract, `schema.yaml` in the folder."""
        from dagster_project.data.schema import Schema

        return Schema.from_file(self.path / "schema.yaml")

    def keyed_version(self, population: Population) -> str:
        """Return what Dagster knows the data by: the keyed version and the schema's hash."""
        return f"{population.keyed_version(self.version().text)} {self.schema().hash}"

    def version(self) -> DataVersion:
        """Return the version of the data without reading a record."""
        from dagster_project.data.versions import data_version

        return data_version(self.path)


class BudgetLedger(dg.ConfigurableResource):
    """The ledger of the population that `population.yaml` names."""

    population_file: str = "population.yaml"
    root: str = str(ROOT)
    approved_by: str = Field(
        "", description="Who approves the spending (default: the account's name)."
    )

    def population(self) -> Population:
        """Load the population whose privacy is accounted for."""
        from dagster_project.ledger.population import Population

        return Population.load(_inside(self.root, self.population_file))

    def open(self) -> Ledger:
        """Open and verify the ledger."""
        from dagster_project.ledger import Ledger

        return Ledger.open(self.population())

    def approver(self) -> str:
        """Return the name of the person who approves the spending."""
        import getpass

        return self.approved_by or getpass.getuser()

    def anchor(self, ledger: Ledger, *, public: bool) -> None:
        """Record the head of the ledger in population.yaml.

        For public data only `ledger anchor` does so, so that running the example leaves the
        working tree clean.
        """
        if not public:
            self.population().write_anchor(ledger.anchor())


class ReleaseStore(dg.ConfigurableResource):
    """The folders of releases, models and the private zone."""

    root: str = str(ROOT)

    @property
    def path(self) -> Path:
        return Path(self.root)

    def load(self, release_id: str, ledger: Ledger, compute: ComputeSettings) -> Release:
        """Load a reserved release."""
        from dagster_project.pipeline.release import Release

        return Release.load(release_id, root=self.path, ledger=ledger, compute=compute)

    def prepare(self, plan: Plan, schema: Schema, ledger: Ledger) -> None:
        """Create the folders of a reserved release."""
        from dagster_project.pipeline.release import Release

        Release(plan=plan, schema=schema, ledger=ledger, root=self.path).write_schema()

    def bundle(
        self, release: Release, *, n: int, seed: int, where: str | None = None, csv: bool = False
    ) -> Path:
        """Return the bundle's folder: the release's own for the first n and seed, else another."""
        from dagster_project.pipeline.synthetic_release import stage_name

        asked = stage_name(n, seed, where, csv)
        first = next(
            (s for s in release.ledger.release(release.id).stages if s.startswith("synthetic_")),
            stage_name(n, seed),
        )
        if first == asked:
            return release.bundle
        suffix = asked.removeprefix("synthetic_release").replace(".", "-")
        return release.bundle.with_name(f"{release.id}{suffix}")

    def note_seconds(self, release: Release, stage: str, seconds: float) -> dict[str, float]:
        """Add a stage's wall time to the release's private notes and return all wall times."""
        file = release.private / "seconds.json"
        known = json.loads(file.read_text()) if file.is_file() else {}
        known[stage] = round(seconds, 2)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1))
        return known


class ComputeResource(dg.ConfigurableResource):
    """Device, memory bound and workers of the stages."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_gb: float = Field(1.0, gt=0, description="Memory bound of per-example gradients.")
    engine: Literal["local", "ray"] = Field("local", description="Where the workers run.")
    workers: int = Field(1, ge=1, description="Processes that read pairs, train and draw.")
    address: str = Field("", description="Address of the Ray cluster (default: RAY_ADDRESS).")
    bars: bool = Field(False, description="Progress on the terminal instead of log lines.")

    def settings(self) -> ComputeSettings:
        """Return the library's settings for this resource."""
        from dagster_project.pipeline.release import Compute as ComputeSettings

        return ComputeSettings(
            device=self.device,
            precision=self.precision,
            memory_gb=self.memory_gb,
            engine=self.engine,
            workers=self.workers,
            address=self.address or None,
        )

    def progress(self, stage: str, log: Callable[[str], None]) -> Callable[[float, str], None]:
        """Return a callback that shows a stage's progress.

        On a terminal it is a bar, on another stream a line every few seconds (`terminal`), and
        without bars a line of the log for each quarter. The fraction done of private work depends
        on the number of people (26 % is one of so many batches), so the scale is fixed: bars and
        lines move in twentieths, and the log, which Dagster keeps, gets the same four lines for
        all data, without the text.
        """
        if self.bars:
            from dagster_project.orchestration import terminal

            out = terminal.stream()
            if out.isatty():
                show = terminal.bar(stage, out)
            else:
                lines = terminal.Lines(stage, out)

                def show(fraction: float, text: str) -> None:
                    lines.show(fraction)

            return lambda fraction, text: show(int(20 * fraction) / 20, text)
        quarter = 0

        def note(fraction: float, text: str) -> None:
            nonlocal quarter
            while quarter < int(4 * fraction):
                quarter += 1
                log(f"{stage}: {25 * quarter} %")

        return note


class Tracking(dg.ConfigurableResource):
    """MLflow tracking.

    A store counts as shared unless it is declared private. A shared store gets no figure that was
    computed on real data, unless that data is public.
    """

    uri: str = Field("", description="Tracking URI (default: mlflow.db beside the releases).")
    private: bool = Field(False, description="Declare the store part of the private zone.")
    root: str = str(ROOT)
    experiment: str = "dp-tabimage"

    def log_release(
        self, release: Release, bundle: Path, dagster_run: str, data_version: str
    ) -> str:
        """Log a release as one MLflow run, with a model that draws pairs, and return its id."""
        from dagster_project.orchestration import tracking

        return tracking.log_release(
            self._store(), release, bundle, dagster_run=dagster_run, data_version=data_version
        )

    def log_fidelity(self, mlflow_run: str, report: FidelityReport, *, public: bool) -> bool:
        """Log the figures of the report if the store is private or the data is public."""
        from dagster_project.orchestration import tracking

        if not (public or self.private):
            return False
        tracking.log_fidelity(self._store(), mlflow_run, report)
        return True

    def _store(self) -> Any:
        from dagster_project.orchestration import tracking

        root = Path(self.root).resolve()
        return tracking.TrackingStore(
            uri=self.uri or f"sqlite:///{root / 'mlflow.db'}",
            artifacts=(root / "mlartifacts").as_uri(),
            lock=root / "mlflow.lock",
            experiment=self.experiment,
        )
