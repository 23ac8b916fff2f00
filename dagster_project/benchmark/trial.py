"""One trial: a method at one epsilon and seed, run in a throw-away project and evaluated.

Its result is a JSON file and some images, written when it is finished. `configuration` lists the
trials, and `bench` runs them in order.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dagster_project.benchmark import NOTICE, project
from dagster_project.benchmark.cache import shared
from dagster_project.benchmark.configuration import Configuration, Entry, Trial
from dagster_project.benchmark.method import MethodRequest, many_records
from dagster_project.benchmark.registry import method
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress, silent
from dagster_project.data.schema import Schema
from dagster_project.evaluation.distributions import kway_tvd, sampling_floor
from dagster_project.evaluation.fidelity import compare
from dagster_project.evaluation.figures import FidelityReport, plain
from dagster_project.evaluation.reference import Reference, make_reference
from dagster_project.image.features import Extractor, make_extractor
from dagster_project.pipeline.fidelity_report import peak_memory
from dagster_project.pipeline.release import Compute
from dagster_project.planning.provenance import code_version

_TABLE_RECORDS = 100_000
_SAMPLES = 400  # pairs kept for the image grid
FIGURES = (
    "auc_mean", "auc_floor", "auc_ceiling", "mae_mean", "mae_floor", "mae_ceiling",
    "fd", "fd_real", "kid", "kid_real", "precision", "precision_real", "recall", "recall_real",
    "density", "density_real", "coverage", "coverage_real",
    "near_duplicates", "near_duplicates_real",
    "esg", "esg_floor", "tvd_1way", "tvd_2way", "tvd_3way",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders and device of a comparison.

    Attributes:
        data: The data folder.
        out: Folder of the results; trials are in `out/trials`.
        cache: Folder of work that trials share.
        compute: Device of the networks.
    """

    data: Path
    out: Path
    cache: Path
    compute: Compute = field(default_factory=Compute)

    def schema(self) -> Schema:
        return Schema.from_file(self.data / "schema.yaml")

    def result(self, trial: Trial) -> Path:
        return self.out / "trials" / f"{trial.key}.json"

    def images(self, trial: Trial) -> Path:
        return self.out / "trials" / f"{trial.key}.npz"


def resolve(
    configuration: Configuration, entry: Entry, epsilon: float, places: Places
) -> dict[str, Any]:
    """Return a method's recipe at an epsilon with every step count fixed. Reads no record."""
    schema = places.schema()
    with project.population(schema, epsilon=epsilon, delta=configuration.delta) as people:
        request = MethodRequest(
            schema=schema,
            population=people,
            data_version=configuration.data_version,
            epsilon=epsilon,
            delta=configuration.delta,
            seed=0,
            settings=entry.settings,
            budget_seconds=configuration.budget_seconds,
            compute=places.compute,
            cache=places.cache,
        )
        return dict(method(entry.method).plan(request).recipe)


def run(
    configuration: Configuration, trial: Trial, places: Places, progress: Progress = silent
) -> dict[str, Any]:
    """Run a trial, write its files and return its row; a finished trial's row is read back."""
    file = places.result(trial)
    if file.is_file():
        return json.loads(file.read_text())
    schema = places.schema()
    pairs = project.real_pairs(places.data, schema, configuration.data_version, cache=places.cache)
    row, synthetic, table = _make(configuration, trial, places, pairs, progress)
    extractor = make_extractor(configuration.extractor)
    train, heldout = (Pairs.load(pairs / part) for part in ("train", "heldout"))
    reference = _reference(
        pairs, train, heldout, schema, extractor, len(synthetic), trial.seed, places.cache
    )
    started = time.process_time()
    report = compare(
        reference,
        train,
        heldout,
        synthetic,
        synthetic.codes if table is None else table,
        schema,
        extractor,
        trial.seed,
        shuffles=1,
        progress=lambda fraction, text: progress(0.85 + 0.15 * fraction, text),
    )
    row |= _figures(report, schema) | _distance_of_pairs(train, synthetic, schema, trial.seed)
    row["evaluation_cpu_seconds"] = time.process_time() - started
    row = plain(row)  # as it will be read from its file, with None for missing values
    _write(trial, places, row, synthetic)
    return row


def _make(
    configuration: Configuration, trial: Trial, places: Places, pairs: Path, progress: Progress
) -> tuple[dict[str, Any], Pairs, np.ndarray | None]:
    """Plan, reserve and run the method; return its spending, its pairs and many records."""
    schema, system = places.schema(), method(trial.method)
    reset_peak_memory()
    with project.population(schema, epsilon=trial.epsilon, delta=trial.delta) as people:
        request = MethodRequest(
            schema=schema,
            population=people,
            data_version=configuration.data_version,
            epsilon=trial.epsilon,
            delta=trial.delta,
            seed=trial.seed,
            recipe=trial.recipe,
            compute=places.compute,
            cache=places.cache,
        )
        with project.reserved(
            system.plan(request),
            schema,
            people,
            pairs=pairs,
            compute=places.compute,
            cache=places.cache,
        ) as release:
            started = time.process_time()
            synthetic = system.synthesise(
                release,
                places.data,
                configuration.n,
                trial.seed,
                lambda fraction, text: progress(0.85 * fraction, text),
            )
            spent = time.process_time() - started
            project.require_all_run(release)
            seconds = {**release.seconds, "sampling": max(0.0, spent - release.own_seconds)}
            row = {
                "notice": NOTICE,
                "trial": trial.key,
                "method": trial.label,
                "epsilon": trial.epsilon,
                "seed": trial.seed,
                "epsilon_spent": release.plan.epsilon,
                "delta": release.plan.target_delta,
                "cpu_seconds": sum(seconds.values()),
                "cpu_seconds_by_stage": seconds,
                "peak_memory": peak_memory_since_reset(),
            }
            return row, synthetic, many_records(release, _TABLE_RECORDS, trial.seed)


def _reference(
    pairs: Path,
    train: Pairs,
    heldout: Pairs,
    schema: Schema,
    extractor: Extractor,
    n: int,
    seed: int,
    cache: Path,
) -> Reference:
    """Return the reference figures of the real data, shared by all methods of a seed."""

    def make(folder: Path) -> None:
        made = make_reference(train, heldout, schema, extractor, synthetic=n, seed=seed)
        made.save(folder)

    made_from = {
        "pairs": pairs.name,
        "extractor": extractor.name,
        "n": n,
        "seed": seed,
        "code": code_version(make_reference.__module__),
    }
    return Reference.load(shared(cache, "reference", made_from, make), schema)


def _figures(report: FidelityReport, schema: Schema) -> dict[str, Any]:
    figures: dict[str, Any] = {name: getattr(report, name) for name in FIGURES}
    for k, value in report.tvd_sampling_floor.items():
        figures[f"tvd_{k}way_floor"] = value
    figures["fd_extractor"] = report.fd_extractor
    figures["intervals"] = dict(report.intervals)
    first = next((a.name for a in schema.attributes if a.kind == "categorical"), None)
    for attribute in report.attributes:
        if attribute["name"] == first:
            figures |= {
                "accuracy_of": first,
                "accuracy": attribute["accuracy"],
                "accuracy_ceiling": attribute["accuracy_ceiling"],
            }
    figures["attributes"] = [dict(attribute) for attribute in report.attributes]
    return figures


def _distance_of_pairs(train: Pairs, synthetic: Pairs, schema: Schema, seed: int) -> dict[str, Any]:
    """Return the 3-way distance and its floor over only the pairs.

    `tvd_3way` is over many records of the table model if there is one; these figures compare
    methods with a table model to methods without.
    """
    if len(schema.sizes) < 3:
        return {"tvd_3way_of_pairs": math.nan, "tvd_3way_of_pairs_floor": math.nan}
    rng = np.random.default_rng(seed)
    floor = sampling_floor(train.codes, schema.sizes, 3, n_synthetic=len(synthetic), rng=rng)
    return {
        "tvd_3way_of_pairs": kway_tvd(train.codes, synthetic.codes, schema.sizes, 3),
        "tvd_3way_of_pairs_floor": floor,
    }


def _write(trial: Trial, places: Places, row: dict[str, Any], synthetic: Pairs) -> None:
    """Write the images, then atomically the result, which marks the trial as finished."""
    file, images = places.result(trial), places.images(trial)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        images, images=synthetic.images[:_SAMPLES], codes=synthetic.codes[:_SAMPLES]
    )
    pending = file.with_suffix(f".{os.getpid()}.pending")
    pending.write_text(json.dumps(row, indent=1, allow_nan=False))
    pending.replace(file)


def reset_peak_memory() -> None:
    """Reset this process's peak memory if the system supports it (Linux)."""
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return


def peak_memory_since_reset() -> int:
    """Return the peak resident memory in bytes since the reset, or else of the whole process."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        return peak_memory()
