"""Workers in this process and in a pool of processes; those of Ray are in tests_ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from dagster_project.compute import machine
from dagster_project.compute.machine import Identity
from dagster_project.compute.opening import open_workers
from dagster_project.compute.workers import (
    InProcess,
    WorkerLost,
    Workers,
    in_order,
    lost,
    open_pool,
)
from dagster_project.image.shared_steps import divide
from dagster_project.orchestration.stage import guarded
from dagster_project.pipeline import release
from dagster_project.pipeline.release import Compute
from dagster_project.privacy.noise import SecureGenerator
from tests.compute import toys
from tests.compute.shards import obeys, private_failure, process_id


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with open_workers("local", 2) as workers:
        yield workers


def test_sums_and_images_do_not_depend_on_the_workers(opened, pool):
    toys.check_equal(opened, pool)


def test_workers_are_other_processes_with_one_thread_and_results_keep_their_order(pool):
    assert list(pool.map_shards(abs, range(-5, 5))) == [*range(5, 0, -1), *range(5)]
    ids = set(pool.map_shards(process_id, range(8)))
    assert os.getpid() not in ids and len(ids) <= 2
    assert set(pool.map_shards(toys.threads, range(4))) == {1}


def test_all_workers_have_started_before_the_first_shard():
    """One that starts while another one dies would be waited for without end."""
    before = set(multiprocessing.active_children())
    with open_pool(3):
        assert len(set(multiprocessing.active_children()) - before) == 3


def test_workers_can_be_ended_under_a_parent_that_ignores_signals():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with open_pool(1) as workers:
            assert list(workers.map_shards(obeys, [1])) == [True]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_a_few_shards_are_under_way():
    taken: list[int] = []

    def shards() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    results = in_order(lambda shard: shard, lambda shard: shard * 10, shards(), waiting=3)
    assert next(results) == 0 and len(taken) == 4
    assert list(results) == [10 * number for number in range(1, 9)]


def test_a_workers_exception_arrives(pool):
    with pytest.raises(ValueError, match="fever"):
        list(pool.map_shards(private_failure, [1]))


def test_nobody_can_hand_a_worker_the_source_of_noise(pool):
    with pytest.raises(TypeError):
        list(pool.map_shards(process_id, [SecureGenerator()]))


def test_decoding_that_lost_its_workers_starts_again(reserved, monkeypatch):
    with open_pool(2) as workers:
        toys.check_lost_decoding(reserved, workers, monkeypatch)


def test_a_lost_statistics_pass_costs_nothing(opened, monkeypatch):
    with open_pool(2) as workers:
        toys.check_lost_statistics(opened, workers, monkeypatch)


def test_workers_end_with_a_parent_that_is_killed():
    script = (
        "from dagster_project.compute.workers import open_pool\n"
        "from tests.compute.shards import process_id\n"
        "import os, signal\n"
        "if __name__ == '__main__':\n"
        "    with open_pool(1) as workers:\n"
        "        print(*workers.map_shards(process_id, [1]), flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    worker = int(done.stdout)
    for _ in range(100):
        if not _runs(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # a zombie has ended too
    return not (status.is_file() and ") Z " in status.read_text())


@pytest.mark.parametrize("people", [0, 1, 31, 32, 33, 300])
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_everybody_sampled_is_on_exactly_one_worker(people, workers):
    chosen = np.arange(people) * 3
    parts = divide(chosen, 32, workers)
    assert np.array_equal(np.concatenate([*parts, chosen[:0]]), chosen)
    assert len(parts) <= workers and all(len(part) % 32 == 0 for part in parts[:-1])


def test_one_local_worker_is_this_process():
    with Compute().open_workers() as workers:
        assert isinstance(workers, InProcess)
    with pytest.raises(ValueError, match="at least 1"), Compute(workers=0).open_workers():
        pass


def test_ray_without_its_package_is_refused_before_anything_is_spent(monkeypatch):
    monkeypatch.setattr(release, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package ray"):
        Compute(engine="ray").require_workers()


def test_lost_workers_are_one_sentence_in_the_log_of_events(tmp_path):
    def loses() -> None:
        raise lost()

    with pytest.raises(dg.Failure, match="start the same release again") as failure:
        guarded("table_model", tmp_path, loses)
    assert not failure.value.allow_retries and not list(tmp_path.iterdir())


def test_unequal_workers_are_refused():
    own = machine.identity()
    machine.require_equal([own, own])
    with pytest.raises(WorkerLost, match="different processors"):
        machine.require_equal([own, Identity(own.code, "another")])
    with pytest.raises(WorkerLost, match="version of the code"):
        machine.require_equal([Identity("another", own.processor)] * 2)


def test_lost_steps_are_paid_and_resumed(opened, pool, monkeypatch):
    """The last test of this file, because it kills the pool."""
    toys.check_lost_steps(opened, pool, monkeypatch)
