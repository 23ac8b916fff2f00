"""One resource for each thing outside: data, ledger, MLflow, compute, the folders of a release.

Resources find and open; they decide nothing. What a stage does is in `pipeline`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

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


def _inside(root: str, path: str) -> Path:
    return (Path(root) / path).resolve() if not os.path.isabs(path) else Path(path)


class DataSet(dg.ConfigurableResource):
    """The private data and its public contract."""

    folder: str = Field("data", description="Folder with the records; `<folder>.dvc` beside it.")
    root: str = Field(str(ROOT), description="What relative paths start from.")

    @property
    def path(self) -> Path:
        """The data folder. Links are not resolved: reading refuses them."""
        return Path(self.root) / self.folder

    def schema(self) -> Schema:
        """The public contract, `schema.yaml` in the folder."""
        from dagster_project.data.schema import Schema

        return Schema.from_file(self.path / "schema.yaml")

    def version(self) -> DataVersion:
        """The data's version, without a record being read."""
        from dagster_project.data.versions import data_version

        return data_version(self.path)


class BudgetLedger(dg.ConfigurableResource):
    """The ledger of the population that `population.yaml` names."""

    population_file: str = "population.yaml"
    root: str = str(ROOT)
    approved_by: str = Field("", description="Who decides to spend (default: the account's name).")

    def population(self) -> Population:
        """The people whose privacy is counted."""
        from dagster_project.ledger.population import Population

        return Population.load(_inside(self.root, self.population_file))

    def open(self) -> Ledger:
        """The ledger, verified."""
        from dagster_project.ledger import Ledger

        return Ledger.open(self.population())

    def approver(self) -> str:
        """The person who is charged with the decision."""
        import getpass

        return self.approved_by or getpass.getuser()

    def anchor(self, ledger: Ledger, *, public: bool) -> None:
        """Notes the ledger's end in population.yaml; for public data only `ledger anchor` does,
        so that trying the example leaves the working tree clean."""
        if not public:
            self.population().write_anchor(ledger.anchor())


class ReleaseStore(dg.ConfigurableResource):
    """Where releases, models and the private zone lie."""

    root: str = str(ROOT)

    @property
    def path(self) -> Path:
        return Path(self.root)

    def load(self, release_id: str, ledger: Ledger, compute: ComputeSettings) -> Release:
        """A reserved release."""
        from dagster_project.pipeline.release import Release

        return Release.load(release_id, root=self.path, ledger=ledger, compute=compute)

    def prepare(self, plan: Plan, schema: Schema, ledger: Ledger) -> None:
        """Makes the folders of a reserved release."""
        from dagster_project.pipeline.release import Release

        Release(plan=plan, schema=schema, ledger=ledger, root=self.path).write_schema()

    def bundle(self, release: Release, *, n: int, seed: int) -> Path:
        """Folder of a bundle: the release's own for the first one, another for other numbers."""
        from dagster_project.pipeline.synthetic_release import stage_name

        first = next(
            (s for s in release.ledger.release(release.id).stages if s.startswith("synthetic_")),
            stage_name(n, seed),
        )
        if first == stage_name(n, seed):
            return release.bundle
        return release.bundle.with_name(f"{release.id}-n{n}-seed{seed}")

    def note_seconds(self, release: Release, stage: str, seconds: float) -> dict[str, float]:
        """Adds a stage's wall time to the release's private notes and returns all of them."""
        file = release.private / "seconds.json"
        known = json.loads(file.read_text()) if file.is_file() else {}
        known[stage] = round(seconds, 2)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1))
        return known


class ComputeResource(dg.ConfigurableResource):
    """Device and bounds of the stages that train or draw."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_gb: float = Field(1.0, gt=0, description="Bound for per-example gradients.")
    bars: bool = Field(False, description="Progress bars on the terminal instead of log lines.")

    def settings(self) -> ComputeSettings:
        """The library's view of this resource."""
        from dagster_project.pipeline.release import Compute as ComputeSettings

        return ComputeSettings(
            device=self.device, precision=self.precision, memory_gb=self.memory_gb
        )

    def progress(self, stage: str, log: Callable[[str], None]) -> Callable[[float, str], None]:
        """Shows a stage's progress: a bar once it lasts two seconds, or a line each quarter.

        A fraction of private work follows the number of people (26 % is one batch of so many). So
        the scale is fixed: the bar moves by twentieths, and the log, which Dagster keeps, gets the
        same four lines whatever the data, without the text.
        """
        if self.bars:
            from tqdm import tqdm

            if not sys.stderr.isatty():
                return lambda fraction, text: None
            bar = tqdm(
                total=100,
                desc=stage,
                delay=2,
                file=sys.stderr,
                leave=False,
                bar_format="{desc} {percentage:3.0f}% |{bar:30}| {elapsed}<{remaining} {postfix}",
            )

            def show(fraction: float, text: str) -> None:
                bar.set_postfix_str(text, refresh=False)
                bar.update(max(0, 5 * int(20 * fraction) - bar.n))
                if fraction >= 1:
                    bar.close()

            return show
        quarter = 0

        def note(fraction: float, text: str) -> None:
            nonlocal quarter
            while quarter < int(4 * fraction):
                quarter += 1
                log(f"{stage}: {25 * quarter} %")

        return note


class Tracking(dg.ConfigurableResource):
    """MLflow. A store is taken to be shared unless it is declared private, and then gets no figure
    that was computed on real data, unless that data is public."""

    uri: str = Field("", description="Tracking URI; empty: mlflow.db beside the releases.")
    private: bool = Field(False, description="Declares the store a part of the private zone.")
    root: str = str(ROOT)
    experiment: str = "dp-tabimage"

    def log_release(self, release: Release, bundle: Path, dagster_run: str) -> str:
        """Writes settings, events, manifest and model as one MLflow run; returns its id."""
        from dagster_project.orchestration import tracking

        return tracking.log_release(self._store(), release, bundle, dagster_run=dagster_run)

    def log_fidelity(self, mlflow_run: str, report: FidelityReport, *, public: bool) -> bool:
        """Adds the figures of the report where the store is private or the data is public."""
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
