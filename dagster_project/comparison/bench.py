"""Runs a comparison cell by cell, goes on where an earlier run stopped, and writes the results.

In this process, or in worker processes that each get their share of threads.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster_project.comparison import NOTICE, cell, grid, table
from dagster_project.comparison.cell import Places
from dagster_project.comparison.configuration import Cell, Configuration
from dagster_project.pairs.versions import data_version
from dagster_project.stages.release import Progress, silent
from dagster_project.table.schema import Schema

Row = dict[str, Any]
Told = Callable[[str], None]


def require_public(schema: Schema) -> None:
    """Raises ValueError for data that is not declared public."""
    if not schema.public:
        raise ValueError(
            "a comparison runs only on data whose schema says `public: true`: choosing by figures "
            "on private records is not differentially private"
        )


def resolve(configuration: Configuration, places: Places, told: Told) -> Configuration:
    """The configuration with every recipe resolved; what an earlier run resolved is kept."""
    known = dict(configuration.resolved)
    kept = places.out / "configuration.json"
    if kept.is_file():
        known = {**json.loads(kept.read_text())["resolved"], **known}
    wanted: dict[str, Mapping[str, Any]] = {}
    for entry in configuration.entries:
        for epsilon in configuration.epsilons:
            key = configuration.resolution_key(entry, epsilon)
            if key not in known:
                told(f"planning {entry.label} at epsilon {epsilon:g}")
                known[key] = cell.resolve(configuration, entry, epsilon, places)
            wanted[key] = known[key]
    write(kept, {"resolved": known})
    return configuration.with_resolved(wanted)


def run(
    configuration: Configuration,
    places: Places,
    *,
    json_file: Path,
    workers: int = 1,
    told: Told = lambda text: None,
    progress: Callable[[Cell], Progress] = lambda cell: silent,
) -> tuple[list[Row], list[Cell]]:
    """Runs all cells that are not finished and writes JSON, table and grid.

    Args:
        configuration: What is compared.
        places: Data, results and shared work.
        json_file: Where the results go as JSON.
        workers: Processes; 1 is this one.
        told: Told one line for each thing that is done.
        progress: From a cell to what is told of its progress, for one worker.

    Returns:
        (rows, failed): the rows of finished cells in the order of the configuration, and the cells
        whose method failed; the trace-back of those lies in their place.

    Raises:
        ValueError: The data is not public, or is not what the configuration was made for.
    """
    schema = places.schema()
    require_public(schema)
    if schema.hash != configuration.schema_hash:
        raise ValueError("the data's schema is not the one this comparison was made for")
    threads = max(1, (os.cpu_count() or 1) // workers)
    with _threads(threads if workers > 1 else None):
        configuration = resolve(configuration, places, told)
        cells, rows, failed = configuration.cells(), {}, []
        described = configuration.to_json(workers=workers, threads=threads)
        for done, (one, outcome) in enumerate(
            _outcomes(configuration, cells, places, workers, progress), start=1
        ):
            if isinstance(outcome, str):
                failed.append(one)
                error = places.result(one).with_suffix(".error.txt")
                error.parent.mkdir(parents=True, exist_ok=True)
                error.write_text(outcome)
                told(f"{done}/{len(cells)} {one.key} FAILED, see {error}")
                continue
            rows[one.key] = outcome
            told(f"{done}/{len(cells)} {table.line(outcome)}")
            results = [rows[c.key] for c in cells if c.key in rows]
            write(json_file, {"notice": NOTICE, "configuration": described, "results": results})
            (places.out / "table.md").write_text(table.markdown(results))
    if rows:
        grid.draw(configuration, cells, places).save(places.out / "grid.png")
    return [rows[c.key] for c in cells if c.key in rows], failed


def current_version(data: Path) -> str:
    """Version of a data folder, without a record being read."""
    return data_version(data).text


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON at once, so that a kill leaves the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pending = file.with_name(f".{file.name}.pending")
    pending.write_text(json.dumps(content, indent=1))
    pending.replace(file)


def _outcomes(
    configuration: Configuration,
    cells: list[Cell],
    places: Places,
    workers: int,
    progress: Callable[[Cell], Progress],
) -> Iterator[tuple[Cell, Row | str]]:
    """Each cell with its row or a trace-back, in the order in which they finish."""
    if workers == 1:
        for one in cells:
            yield one, _attempt(configuration, one, places, progress(one))
        return
    # A fresh interpreter, not a fork: it reads the number of threads before torch loads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = {pool.submit(_attempt, configuration, one, places): one for one in cells}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _attempt(
    configuration: Configuration, one: Cell, places: Places, progress: Progress = silent
) -> Row | str:
    try:
        return cell.run(configuration, one, places, progress)
    except Exception:  # one method's fault must not cost the other cells
        return traceback.format_exc()


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Environment for worker processes: their share of threads, and none that spins idly."""
    if number is None:
        yield
        return
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
