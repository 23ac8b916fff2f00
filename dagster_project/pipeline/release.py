"""A release in progress: its plan, its folders, and the rule that a stage runs only once.

There are three zones: `private/<id>` holds everything that is not differentially private,
`models/<id>` the outputs of mechanisms and what is derived from them, and `releases/<id>` the
public bundle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from dagster_project.compute.opening import Engine, open_workers
from dagster_project.compute.workers import Workers
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.errors import WrongState
from dagster_project.ledger.outputs import run_once
from dagster_project.pipeline.networks import Networks
from dagster_project.privacy.mechanism import Mechanism, MechanismMismatch
from dagster_project.privacy.plan import Plan
from dagster_project.settings.recipe import Recipe

Kind = TypeVar("Kind", bound=Mechanism)
FORMAT = 2  # of the files under models/<id>; a change of it brings a migration and its test


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how networks run.

    Attributes:
        device: "auto" uses a GPU if there is one.
        precision: "float32", or "bfloat16" autocast on a GPU.
        memory_gb: Memory limit for per-example gradients held at once, in each worker.
        engine: "local" works on this machine, "ray" on a Ray cluster.
        workers: Number of processes that read the private pairs, train and draw.
        address: Address of the Ray cluster, as `ray.init` takes it; None is the environment's, or
            else a cluster of this machine alone.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_gb: float = 1.0
    engine: Engine = "local"
    workers: int = 1
    address: str | None = None

    def require_workers(self) -> None:
        """Refuse workers that can never start, without starting any.

        Raises:
            ValueError: There is none, or Ray is not installed.
        """
        if self.workers < 1:
            raise ValueError("the number of workers must be at least 1")
        if self.engine == "ray" and find_spec("ray") is None:
            raise ValueError("the engine ray needs the package ray: pip install 'dp-tabimage[ray]'")

    def open_workers(self) -> AbstractContextManager[Workers]:
        """Return the workers of a stage, as a context; see `compute.opening.open_workers`."""
        self.require_workers()
        gpus = int(self.device == "cuda")
        return open_workers(self.engine, self.workers, address=self.address, gpus=gpus)

    @property
    def torch_device(self) -> torch.device:
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)

    def require_device(self) -> None:
        """Refuse a device that this machine does not have.

        Raises:
            ValueError: It is "cuda", and torch finds no GPU.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "this machine has no GPU that torch can use: choose the device cpu, which also "
                "continues a release that was begun with another device, at no further cost"
            )

    def autocast(self) -> torch.autocast:
        """Return a mixed-precision context, inactive for float32."""
        device = self.torch_device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Release(Networks):
    """A release in progress.

    Attributes:
        plan: The plan as reserved.
        schema: The public contract the plan was made for.
        ledger: The population's ledger.
        root: Folder of the three zones.
        compute: Device and limits.
    """

    plan: Plan
    schema: Schema
    ledger: Ledger
    root: Path
    compute: Compute = Compute()

    @property
    def id(self) -> str:
        return self.plan.release_id

    @property
    def recipe(self) -> Recipe:
        return Recipe.restored(self.plan.recipe)

    @property
    def private(self) -> Path:
        return self.root / "private" / self.id

    @property
    def models(self) -> Path:
        return self.root / "models" / self.id

    @property
    def bundle(self) -> Path:
        return self.root / "releases" / self.id

    def public_models(self) -> Models:
        """Return the models by themselves, without plan and ledger, for other processes."""
        return Models(
            recipe=self.recipe, schema=self.schema, models=self.models, compute=self.compute
        )

    def declared(self, mechanism: str) -> Mapping[str, Any]:
        """Return the declared parameters of a mechanism of the plan."""
        return self.plan.mechanism(mechanism).declared

    def spends(self, mechanism: str) -> bool:
        """Return whether a mechanism is in the plan."""
        return any(item.name == mechanism for item in self.plan.mechanisms)

    def mechanism(self, kind: type[Kind], name: str | None = None) -> Kind:
        """Return a mechanism of the plan with its declared parameters.

        Raises:
            KeyError: If the plan does not contain it.
        """
        entry = self.plan.mechanism(name or kind.name)
        found = kind.of(entry)
        if found.event() != entry.event:
            raise MechanismMismatch(f"{entry.name} declares other parameters than it charges")
        return found

    def write_schema(self) -> None:
        """Write the schema beside the models, so that they can be used without the data.

        The plan stays in the ledger, because it names the data's version, which may be private.
        """
        self.models.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "schema": self.schema.to_dict()}
        (self.models / "schema.json").write_text(json.dumps(content, indent=1))

    @classmethod
    def load(cls, release_id: str, *, root: Path, ledger: Ledger, compute: Compute) -> Release:
        """Load a reserved release, with its plan from the ledger.

        Raises:
            UnknownRelease: If the ledger does not know it.
            WrongState: If its schema is missing or was altered, or another version made its models.
        """
        known = ledger.release(release_id)
        folder = root / "models" / release_id
        if not (folder / "schema.json").is_file():
            raise WrongState(f"the models of release {release_id!r} are not in {folder}")
        content = json.loads((folder / "schema.json").read_text())
        if content.get("format") != FORMAT:
            raise WrongState(
                f"the models of release {release_id!r} are not of format {FORMAT}: another version "
                "of this software made them"
            )
        schema = Schema.from_dict(content["schema"])
        plan = Plan.from_json(known.plan)
        if schema.hash != plan.schema_hash:
            raise WrongState(f"the schema of release {release_id!r} was altered")
        return cls(plan=plan, schema=schema, ledger=ledger, root=root, compute=compute)

    def once(
        self,
        stage: str,
        run: Callable[..., None],
        *,
        executed: Mapping[str, Mapping[str, Any]] | None,
        files: Iterable[str],
        parents: Iterable[str],
        prepare: Callable[[], Any] | None = None,
    ) -> bool:
        """Run a stage that makes files under `models/`, unless they were made already.

        They were made if the stage is committed or a crashed run finished them; see
        `ledger.outputs`.

        Args:
            stage: Name of the stage in the plan.
            run: Function that makes the files; takes what `prepare` returned, if there is one.
            executed: Parameters to run with, by mechanism; None for post-processing.
            files: The files, relative to `models/<id>`.
            parents: Committed stages the files are made from.
            prepare: Exact work that draws no noise. It runs before the stage is begun, so it may
                fail, and run again, at no cost.

        Returns:
            Whether it ran now.

        Raises:
            LedgerError: If the ledger refuses; nothing has run then.
        """
        return run_once(
            self.ledger,
            self.id,
            stage,
            run,
            executed=executed,
            files=files,
            parents=parents,
            root=self.models,
            records=self.private / "finished",
            prepare=prepare,
        )


@dataclass(frozen=True, kw_only=True)
class Models(Networks):
    """The released models of a release by themselves, from which pairs can be drawn.

    Attributes:
        recipe: The release's settings.
        schema: The public contract.
        models: Folder of the models' files.
        compute: Device and limits.
    """

    recipe: Recipe
    schema: Schema
    models: Path
    compute: Compute = Compute()


Drawable = Release | Models
