"""Workers on a Ray cluster of two CPUs, which this file starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from dagster_project.compute import ray_workers
from dagster_project.compute.opening import open_workers
from dagster_project.compute.workers import WorkerLost, Workers
from tests.compute import toys
from tests.compute.shards import private_failure, process_id


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a cluster's logs."""
    started = ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR)
    yield Path(started.address_info["session_dir"]) / "logs"
    ray.shutdown()


@pytest.fixture(scope="module")
def workers(cluster: Path) -> Iterator[Workers]:
    with open_workers("ray", 2) as opened:
        yield opened


def test_sums_and_images_do_not_depend_on_the_workers(opened, workers):
    toys.check_equal(opened, workers)


def test_actors_take_turns_with_one_thread_each(workers):
    assert len(set(workers.map_shards(process_id, range(4)))) == 2
    assert set(workers.map_shards(toys.threads, range(2))) == {1}


def test_a_workers_exception_arrives_and_stays_out_of_the_clusters_logs(workers, cluster):
    with pytest.raises(ValueError, match="fever"):
        list(workers.map_shards(private_failure, [1]))
    logs = [file for file in cluster.rglob("*") if file.is_file()]
    assert logs and not any(b"fever" in file.read_bytes() for file in logs)


def test_a_cluster_that_is_too_small_is_one_sentence(workers, monkeypatch):
    monkeypatch.setattr(ray_workers, "_START_SECONDS", 0.5)
    with (
        pytest.raises(WorkerLost, match="did not start 3 workers in time"),
        open_workers("ray", 3),
    ):
        pass


def test_lost_steps_are_paid_and_resumed(opened, workers, monkeypatch):
    """The last test of this file, because it kills the workers."""
    toys.check_lost_steps(opened, workers, monkeypatch)
