"""Runner of a comparison: runs trials, resumes an earlier run and writes the results.

Trials run in this process, or in worker processes that divide the threads between them.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster_project.benchmark import NOTICE, grid, table, trial
from dagster_project.benchmark.configuration import Configuration, Trial, place
from dagster_project.benchmark.trial import Places
from dagster_project.data.progress import Progress, silent
from dagster_project.data.schema import Schema
from dagster_project.data.versions import data_version

Row = dict[str, Any]
Told = Callable[[str], None]


def require_public(schema: Schema) -> None:
    """Raise ValueError for data that is not declared public."""
    if not schema.public:
        raise ValueError(
            "a comparison runs only on data whose schema says `public: true`: choosing by figures "
            "on private records is not differentially private"
        )


def resolve(
    configuration: Configuration, places: Places, pool: Executor, told: Told
) -> Configuration:
    """Return the configuration with every recipe resolved; an earlier run's recipes are kept.

    The measured cost of a step varies between measurements, and a resumed run must continue with
    the same recipes.
    """
    file = places.out / "resolved.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    wanted = [
        (entry, epsilon)
        for entry in configuration.entries
        for epsilon in configuration.epsilons
        if place(entry, epsilon) not in configuration.resolved
    ]
    waiting = {}
    for entry, epsilon in wanted:
        key = configuration.request_key(entry, epsilon)
        if key not in kept and key not in waiting:
            told(f"planning {entry.method} at epsilon {epsilon:g}")
            waiting[key] = pool.submit(trial.resolve, configuration, entry, epsilon, places)
    for key, future in waiting.items():
        kept[key] = future.result()
        write(file, kept)
    return configuration.with_resolved(
        {place(e, x): kept[configuration.request_key(e, x)] for e, x in wanted}
    )


def run(
    configuration: Configuration,
    places: Places,
    *,
    json_file: Path,
    workers: int = 1,
    told: Told = lambda text: None,
    progress: Callable[[Trial], Progress] = lambda trial: silent,
) -> tuple[list[Row], list[Trial]]:
    """Run all trials that are not finished and write JSON, table and grid.

    Args:
        configuration: The comparison.
        places: Folders of data, results and shared work.
        json_file: JSON file of the results.
        workers: Number of processes; 1 runs in this process.
        told: Called with one line per completed step.
        progress: Returns a trial's progress callback; used with one worker.

    Returns:
        (rows, failed): the rows of finished trials in the order of the configuration, and the
        trials whose method failed; their tracebacks are beside where the results would be.

    Raises:
        ValueError: The data is not public, or the configuration was made for other data.
    """
    _require_same(configuration, places)
    with _pool(workers) as pool:
        configuration = resolve(configuration, places, pool, told)
        trials, rows, failed = configuration.trials(), {}, []
        described = configuration.to_json(workers=workers, threads=_share(workers))
        for done, (one, outcome) in enumerate(
            _outcomes(configuration, trials, places, pool, progress), start=1
        ):
            if isinstance(outcome, str):
                failed.append(one)
                error = places.result(one).with_suffix(".error.txt")
                error.parent.mkdir(parents=True, exist_ok=True)
                error.write_text(outcome)
                told(f"{done}/{len(trials)} {one.key} FAILED, see {error}")
                continue
            rows[one.key] = outcome
            told(f"{done}/{len(trials)} {table.line(outcome)}")
            results = [rows[c.key] for c in trials if c.key in rows]
            write(json_file, {"notice": NOTICE, "configuration": described, "results": results})
            (places.out / "table.md").write_text(table.markdown(results))
    if rows:
        grid.draw(configuration, trials, places).save(places.out / "grid.png")
    return [rows[c.key] for c in trials if c.key in rows], failed


def current_version(data: Path) -> str:
    """Return the version of a data folder without reading a record."""
    return data_version(data).text


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, so that a kill leaves either the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_name(f".{file.name}.pending")
    pending.write_text(json.dumps(content, indent=1, allow_nan=False))
    pending.replace(file)


def _require_same(configuration: Configuration, places: Places) -> None:
    schema = places.schema()
    require_public(schema)
    if schema.hash != configuration.schema_hash:
        raise ValueError("the data's schema is not the one this comparison was made for")


def _outcomes(
    configuration: Configuration,
    trials: list[Trial],
    places: Places,
    pool: Executor,
    progress: Callable[[Trial], Progress],
) -> Iterator[tuple[Trial, Row | str]]:
    """Yield each trial with its row or a traceback, in the order in which they finish."""
    if isinstance(pool, _Here):
        for one in trials:
            yield one, _attempt(configuration, one, places, progress(one))
        return
    waiting = {pool.submit(_attempt, configuration, one, places): one for one in trials}
    for future in as_completed(waiting):
        yield waiting[future], future.result()


def _attempt(
    configuration: Configuration, one: Trial, places: Places, progress: Progress = silent
) -> Row | str:
    try:
        return trial.run(configuration, one, places, progress)
    except Exception:  # one method's error must not stop the other trials
        return traceback.format_exc()


class _Here(Executor):
    """Executor that runs each call immediately, in this process."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **named))
        return future


def _share(workers: int) -> int:
    """Return the number of threads per process."""
    return max(1, (os.cpu_count() or 1) // workers)


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """Yield this process, or worker processes with a fresh interpreter each.

    The environment sets a worker's number of threads before torch is loaded.
    """
    if workers == 1:
        yield _Here()
        return
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(_share(workers))))
    try:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
