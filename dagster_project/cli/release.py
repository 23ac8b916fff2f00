"""Commands that run a release's Dagster job in this process or sample again from its models."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from dagster_project.cli import interruption
from dagster_project.cli.confirming import confirmed
from dagster_project.cli.place import data_of, open_ledger, root_of, settings_of

_WRONG_REQUEST, _REFUSED, _FAILED = 2, 3, 4
# What a wrong request or malformed data raises; Dagster passes on only the class names.
_WRONG = {
    "FileNotFoundError",
    "PermissionError",
    "PopulationError",
    "SchemaError",
    "ValueError",
    "VersionError",
}


def release(options: argparse.Namespace) -> int:
    """Run the whole graph; print the release id, the output paths and the seconds per asset."""
    _require_sampling(options)
    _require_report(options)
    _require_device(options)
    root, data = root_of(options), data_of(options)
    if not confirmed(options):
        print("dptabimage: not confirmed, so nothing was spent", file=sys.stderr)
        return _WRONG_REQUEST
    started = time.monotonic()
    result, faults = _run_job(root, _run_config(options, root, data))
    if result is None:
        for _, sentence in faults:
            print(f"dptabimage: {sentence}", file=sys.stderr)
        return max(code for code, _ in faults)
    release_id = result.output_for_node("synthetic_release")
    found = _outcome(root, release_id, result)
    found["seconds_in_all"] = round(time.monotonic() - started, 1)
    print(json.dumps(found, indent=1) if options.json else _text(found))
    return 0


def sample(options: argparse.Namespace) -> int:
    """Sample another bundle from committed models; post-processing, at no cost."""
    from dagster_project.orchestration.resources import ComputeResource, ReleaseStore
    from dagster_project.pipeline import synthetic_release
    from dagster_project.table.conditions import Condition

    _require_sampling(options)
    _require_device(options)
    root, compute = root_of(options), ComputeResource(**_compute(options))
    store = ReleaseStore(root=str(root))
    ledger = open_ledger(root)
    try:
        made = store.load(options.release, ledger, compute.settings())
        where = (options.where or "").strip() or None
        if where:  # refused before any model is loaded
            Condition.parse(where, made.schema)
        csv = options.format == "csv"
        folder = options.out or store.bundle(
            made, n=options.n, seed=options.seed, where=where, csv=csv
        )
        progress = compute.progress("sample", print)
        stated = synthetic_release.make(
            made,
            folder,
            n=options.n,
            seed=options.seed,
            where=where,
            licence=options.licence,
            csv=csv,
            progress=progress,
        )
        synthetic_release.commit(made, folder)
    finally:
        ledger.close()
    sampling = stated["sampling"]
    found = {"release": made.id, "bundle": str(folder), "files": len(stated["files"])}
    found |= {name: sampling[name] for name in ("where", "share", "people") if name in sampling}
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{options.n:,} pairs in {folder}")
    if where:
        print(
            f"each meets {where}; the table model expects this of {100 * sampling['share']:.2f} % "
            f"of all, about {sampling['people']:,.10g} people"
            + (", so few that noise decides what they look like" * (sampling["people"] < 20))
        )
    return 0


def _compute(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the resource `compute`."""
    names = ("device", "workers", "engine", "address")
    return {name: getattr(options, name) for name in names} | {"bars": True}


def _require_device(options: argparse.Namespace) -> None:
    if options.device == "cuda" or options.engine == "ray" or options.workers != 1:
        from dagster_project.pipeline.release import Compute

        compute = Compute(device=options.device, engine=options.engine, workers=options.workers)
        compute.require_workers()
        if options.engine == "local":  # Ray's GPUs are elsewhere
            compute.require_device()


def _require_sampling(options: argparse.Namespace) -> None:
    # Checked first: sampling runs last, after the budget has been spent.
    if options.n < 1 or options.seed < 0:
        raise ValueError("n must be at least 1 and seed at least 0")


def _require_report(options: argparse.Namespace) -> None:
    # Checked first for the same reason: the report runs after the budget has been spent.
    if options.n < 10:
        raise ValueError("the report needs at least 10 synthetic pairs")
    if options.extractor == "inception-v3" and not Path(options.weights or "").is_file():
        raise ValueError("inception-v3 needs --weights with a local TorchScript file")


def _run_config(options: argparse.Namespace, root: Path, data: Path) -> dict[str, Any]:
    return {
        "ops": {
            "privacy_plan": {
                "config": {
                    "name": options.name,
                    "epsilon": options.epsilon,
                    "delta": options.delta,
                    "preset": options.preset,
                    "settings": settings_of(options),
                    "allow_delta": options.allow_delta,
                    "people": options.people,
                }
            },
            "synthetic_release": {
                "config": {"n": options.n, "seed": options.seed}
                | ({"licence": options.licence} if options.licence else {})
            },
            "fidelity_report": {
                "config": {"extractor": options.extractor}
                | ({"weights": options.weights} if options.weights else {})
            },
        },
        "resources": {
            "data": {"config": {"folder": str(data), "root": str(root)}},
            "budget": {"config": {"root": str(root), "approved_by": options.approved_by}},
            "compute": {"config": _compute(options)},
        },
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def _run_job(root: Path, config: dict[str, Any]) -> tuple[Any, list[tuple[int, str]]]:
    """Return the job's result, or None with an exit code and a sentence for each failure."""
    home = root / ".dagster"
    home.mkdir(exist_ok=True)
    settings = Path(__file__).parent.parent / "orchestration" / "dagster.yaml"
    (home / "dagster.yaml").write_text(settings.read_text())
    os.environ["DAGSTER_HOME"] = str(home)
    import dagster as dg

    from dagster_project.orchestration import terminal
    from dagster_project.orchestration.definitions import build_definitions

    terminal.keep()
    job = build_definitions(root).resolve_job_def("release")
    started = time.time()
    try:
        with dg.DagsterInstance.get() as instance:
            result = job.execute_in_process(config, instance=instance, raise_on_error=False)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        return None, [(_FAILED, interruption.sentence(root, _planned(home, started)))]
    finally:
        terminal.end()
    faults: list[tuple[int, str]] = []
    for event in result.all_events:
        if event.is_step_failure:
            if interruption.was_interrupted(event.step_failure_data.error):
                return None, [(_FAILED, interruption.sentence(root, _planned(home, started)))]
            faults.append(_fault(event.step_failure_data))
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed:
                code = _REFUSED if check.check_name == "within_budget" else _WRONG_REQUEST
                return None, [(code, check.description or check.check_name)]
    if result.success:
        return result, []
    return None, faults or [(_FAILED, "the run failed")]


def _planned(home: Path, since: float) -> str | None:
    """Return the release that was planned since a time, None if there was none."""
    file = home / "releases" / "privacy_plan" / "newest.json"
    planned = file.is_file() and file.stat().st_mtime >= since
    return str(json.loads(file.read_text())) if planned else None


def _fault(failure: Any) -> tuple[int, str]:
    """Return the exit code and the sentence of a failed step."""
    from dagster_project.ledger import errors

    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    text = error.message.strip().partition(": ")[2] if error else "unknown"
    if failure.user_failure_data is not None:
        refused = "refused by the ledger" in failure.user_failure_data.metadata
        return (_REFUSED if refused else _FAILED), text
    if error is not None and isinstance(getattr(errors, error.cls_name or "", None), type):
        return _REFUSED, text
    return (_WRONG_REQUEST if error and error.cls_name in _WRONG else _FAILED), text


def _outcome(root: Path, release_id: str, result: Any) -> dict[str, Any]:
    private = root / "private" / release_id
    report = json.loads((private / "fidelity_report.json").read_text())
    bundle = next(
        event.step_materialization_data.materialization.metadata["bundle"].value
        for event in result.get_asset_materialization_events()
        if event.node_name == "synthetic_release"
    )
    return {
        "release": release_id,
        "epsilon": report["epsilon"],
        "delta": report["delta"],
        "bundle": bundle,
        "models": str(root / "models" / release_id),
        "report": str(private / "fidelity_report.html"),
        "ledger": str(root / "ledger"),
        "seconds": json.loads((private / "seconds.json").read_text()),
        "peak_memory_gb": round(report["peak_memory"] / 1e9, 2),
    }


def _text(found: dict[str, Any]) -> str:
    seconds = "\n".join(f"  {name:24} {value:7.1f} s" for name, value in found["seconds"].items())
    return (
        f"release {found['release']}: epsilon {found['epsilon']:.4f} at delta {found['delta']:g}\n"
        f"  public bundle   {found['bundle']}\n"
        f"  models          {found['models']}\n"
        f"  private report  {found['report']} (begins with what became of the rows)\n"
        f"{seconds}\n"
        f"  {'total':24} {found['seconds_in_all']:7.1f} s, "
        f"peak memory {found['peak_memory_gb']} GB"
    )
