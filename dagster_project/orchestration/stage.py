"""The decorator that turns a stage into an asset through which nothing private leaves.

An asset's value is the release's id, never data. Exceptions of private code are caught here and
replaced by an error code; the traceback stays in the private zone, because Dagster keeps
exception texts in its event log.
"""

from __future__ import annotations

import json
import secrets
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from dagster_project.compute.workers import WorkerLost
from dagster_project.ledger.errors import LedgerError
from dagster_project.orchestration.resources import (
    BudgetLedger,
    ComputeResource,
    DataSet,
    ReleaseStore,
    Tracking,
)
from dagster_project.pipeline import order
from dagster_project.pipeline.too_few_people import TooFewPeople
from dagster_project.planning.provenance import code_version


@dataclass
class StageRun:
    """The argument of a stage's body.

    Attributes:
        context: Dagster's execution context.
        release: The release in progress.
        data, budget, store, tracking: Resources.
        progress: Fraction done and a text, shown to the user.
        seconds: Wall time of the preceding stages, by name.
    """

    context: dg.AssetExecutionContext
    release: Any
    data: DataSet
    budget: BudgetLedger
    store: ReleaseStore
    tracking: Tracking
    progress: Callable[[float, str], None]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def inputs(self, config: dg.Config | None) -> dict[str, Any]:
        """Return what a stage may request by name besides the release."""
        return {
            "data_dir": self.data.path,
            "heldout_key": self.budget.population().member_key(),
        } | self.sampling(config)

    def sampling(self, config: dg.Config | None) -> dict[str, Any]:
        """Return number, seed and folder of the bundle if the asset's settings name them."""
        n, seed = getattr(config, "n", None), getattr(config, "seed", None)
        if n is None or seed is None:
            return {}
        return {
            "n": n,
            "seed": seed,
            "folder": self.store.bundle(self.release, n=n, seed=seed),
            "licence": getattr(config, "licence", None),
        }


Body = Callable[..., Mapping[str, Any]]
T = TypeVar("T")


def stage(
    *, runs: Sequence[str] = (), config: type[dg.Config] | None = None
) -> Callable[[Body], dg.AssetsDefinition]:
    """Turn a function (StageRun[, config]) -> metadata into the asset of the stage it shows.

    The function has the stage's name; zone, upstream assets and pool are in `pipeline.order`. A
    stage with a verb has already run when the function is called.

    Args:
        runs: Modules that the asset's version covers in addition to those that `code_version`
            finds through the imports of the function's module.
        config: Settings of the asset, if it has any.
    """

    def decorate(body: Body) -> dg.AssetsDefinition:
        known = order.stage(body.__name__)
        own = [known.module] if known.verb else []

        @dg.asset(
            name=known.name,
            ins={name: dg.AssetIn(key=name) for name in known.after},
            group_name=known.zone,
            tags={"zone": known.zone},
            kinds={"python"},
            code_version=code_version(body.__module__, *own, *runs),
            io_manager_key="release_id",
            pool=known.pool,
            description=body.__doc__,
            config_schema=config.to_config_schema() if config else None,
            required_resource_keys={"data", "budget", "store", "compute", "tracking"},
        )
        def asset(context, **upstream):  # type: ignore[no-untyped-def]  # Dagster reads the names
            settings = config(**context.op_execution_context.op_config) if config else None
            return _run(known, body, context, upstream, settings)

        return asset

    return decorate


def _run(
    known: order.Stage,
    body: Body,
    context: dg.AssetExecutionContext,
    upstream: Mapping[str, str],
    settings: dg.Config | None,
) -> dg.MaterializeResult:
    resources, name = context.resources, known.name
    compute: ComputeResource = resources.compute
    releases = set(upstream.values())
    if len(releases) != 1:
        raise dg.Failure(
            "the upstream assets belong to different releases: materialise them together",
            allow_retries=False,
        )
    ledger = resources.budget.open()
    started = time.monotonic()

    def private() -> tuple[str, dict[str, Any]]:
        release = resources.store.load(releases.pop(), ledger, compute.settings())
        run = StageRun(
            context=context,
            release=release,
            data=resources.data,
            budget=resources.budget,
            store=resources.store,
            tracking=resources.tracking,
            progress=compute.progress(name, context.log.info),
            seconds=known_seconds(release.private),
        )
        if known.verb:
            known.run(release, run.progress, **run.inputs(settings))
        metadata = body(run, settings) if settings is not None else body(run)
        run.progress(1.0, "done")
        resources.budget.anchor(ledger, public=release.schema.public)
        resources.store.note_seconds(release, name, time.monotonic() - started)
        return release.id, dict(metadata)

    try:
        release_id, metadata = guarded(name, resources.store.path, private)
    finally:
        ledger.close()
    version = metadata.pop("data_version", None)
    return dg.MaterializeResult(
        value=release_id,
        metadata={"release": release_id, **metadata},
        data_version=dg.DataVersion(version) if version else None,
    )


def guarded(name: str, root: Path, private: Callable[[], T]) -> T:
    """Return what private code returns; replace its exceptions by ones that Dagster may keep.

    Raises:
        dg.Failure: The text of a refusal by the ledger, of too few people (a noisy count) or of
            lost workers, or an error code that names the traceback's file in the private zone of
            `root`.
    """
    try:
        return private()
    except LedgerError as refused:
        refusal = {"refused by the ledger": type(refused).__name__}
        failure = dg.Failure(str(refused), metadata=refusal, allow_retries=False)
    except (TooFewPeople, WorkerLost) as ended:
        failure = dg.Failure(str(ended), allow_retries=False)
    except Exception:
        failure = _private_failure(name, root)
    raise failure  # raised here, where no other exception is its context


def known_seconds(private: Path) -> dict[str, float]:
    """Return the wall times recorded so far."""
    file = private / "seconds.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _private_failure(stage_name: str, root: Path) -> dg.Failure:
    code = f"{stage_name}-{secrets.token_hex(4)}"
    folder = root / "private" / "errors"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{code}.txt").write_text(traceback.format_exc())
    return dg.Failure(
        f"{stage_name} failed with error {code}; the traceback is in "
        f"private/errors/{code}.txt (it may show private data)",
        allow_retries=False,
    )


class ReleaseIdIOManager(dg.ConfigurableIOManager):
    """Pass a release's id, and nothing else, from asset to asset as JSON.

    Within a run, assets use the run's own release, so that concurrent runs do not mix; an asset
    that is materialised alone uses the newest release of its upstream asset.
    """

    folder: str

    def handle_output(self, context: dg.OutputContext, obj: str) -> None:
        if not isinstance(obj, str):
            raise dg.DagsterInvariantViolationError("an asset's value must be its release's id")
        for name in (context.run_id, "newest"):
            file = self._file(context, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(obj))

    def load_input(self, context: dg.InputContext) -> str:
        upstream = context.upstream_output
        assert upstream is not None
        own = self._file(upstream, context.step_context.run_id)
        file = own if own.is_file() else self._file(upstream, "newest")
        if not file.is_file():
            raise dg.Failure(
                f"{upstream.asset_key.to_user_string()} has not been materialised yet",
                allow_retries=False,
            )
        return json.loads(file.read_text())

    def _file(self, context: dg.OutputContext, name: str) -> Path:
        return Path(self.folder) / context.asset_key.to_user_string() / f"{name}.json"
