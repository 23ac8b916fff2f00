"""Runs the Dagster job of a release in this process, or samples again from its models."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from dagster_project.commands.place import data_of, open_ledger, root_of


def release(options: argparse.Namespace) -> int:
    """The whole graph; prints the release id, where things lie and the seconds of each asset."""
    root, data = root_of(options), data_of(options)
    started = time.monotonic()
    result, failures = _run_job(root, _run_config(options, root, data))
    if failures:
        for failure in failures:
            print(f"dptabimage: {failure}", file=sys.stderr)
        return 3 if result is None else 4
    assert result is not None
    release_id = result.output_for_node("synthetic_release")
    found = _outcome(root, release_id, result)
    found["seconds_in_all"] = round(time.monotonic() - started, 1)
    print(json.dumps(found, indent=1) if options.json else _text(found))
    return 0


def sample(options: argparse.Namespace) -> int:
    """Another bundle from committed models; post-processing, at no cost."""
    from dagster_project.resources import Compute, ReleaseStore
    from dagster_project.stages import synthetic_release

    root, compute = root_of(options), Compute(bars=True)
    store = ReleaseStore(root=str(root))
    ledger = open_ledger(root)
    try:
        made = store.load(options.release, ledger, compute.settings())
        folder = options.out or store.bundle(made, n=options.n, seed=options.seed)
        progress = compute.progress("sample", print)
        stated = synthetic_release.make(
            made, folder, n=options.n, seed=options.seed, progress=progress
        )
        synthetic_release.commit(made, folder)
    finally:
        ledger.close()
    found = {"release": made.id, "bundle": str(folder), "files": len(stated["files"])}
    print(json.dumps(found, indent=1) if options.json else f"{options.n} pairs in {folder}")
    return 0


def _run_config(options: argparse.Namespace, root: Path, data: Path) -> dict[str, Any]:
    return {
        "ops": {
            "privacy_plan": {
                "config": {
                    "name": options.name,
                    "epsilon": options.epsilon,
                    "delta": options.delta,
                    "settings": dict(options.settings),
                    "allow_delta": options.allow_delta,
                }
            },
            "synthetic_release": {"config": {"n": options.n, "seed": options.seed}},
            "fidelity_report": {
                "config": {"extractor": options.extractor}
                | ({"weights": options.weights} if options.weights else {})
            },
        },
        "resources": {
            "data": {"config": {"folder": str(data), "root": str(root)}},
            "budget": {"config": {"root": str(root), "approved_by": options.approved_by}},
            "compute": {"config": {"device": options.device, "bars": True}},
        },
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def _run_job(root: Path, config: dict[str, Any]) -> tuple[Any, list[str]]:
    """The job's result, and one sentence for each failure (result None: refused at the gate)."""
    home = root / ".dagster"
    home.mkdir(exist_ok=True)
    settings = Path(__file__).parent.parent / "dagster.yaml"
    (home / "dagster.yaml").write_text(settings.read_text())
    os.environ["DAGSTER_HOME"] = str(home)
    import dagster as dg

    from dagster_project.definitions import build_definitions

    job = build_definitions(root).resolve_job_def("release")
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(config, instance=instance, raise_on_error=False)
    failures = []
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            failures.append(error.message.strip().partition(": ")[2] if error else "unknown")
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if check.blocking and not check.passed:
                return None, [check.description or check.check_name]
    if result.success:
        return result, []
    return (result, failures or ["the run failed"])


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
        f"  private report  {found['report']}\n"
        f"{seconds}\n"
        f"  {'in all':24} {found['seconds_in_all']:7.1f} s, "
        f"peak memory {found['peak_memory_gb']} GB"
    )
