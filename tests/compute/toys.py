"""What the tests of the process pool and of Ray share: the same checks on other workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from dagster_project.compute.workers import InProcess, WorkerLost, Workers
from dagster_project.data.pairs import PairsShard
from dagster_project.data.progress import silent
from dagster_project.data.reading import read_pairs
from dagster_project.image import private_training, shared_steps
from dagster_project.image.detail import DetailNetwork
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline import (
    detail_model,
    feature_sums,
    image_model,
    mean_pairs,
    pairs,
    pretrained_checkpoint,
    shards,
    subsample,
    table_model,
)
from dagster_project.pipeline.decoding import Decoder
from dagster_project.pipeline.drawing import ChunkImages
from dagster_project.pipeline.networks import save_network
from dagster_project.pipeline.pairs import load_train, train_folder
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.noise import SecureGenerator
from tests.compute.shards import process_id


def threads(shard: Any) -> int:
    return torch.get_num_threads()


def everybody(n: int, *, sample_rate: float, generator: SecureGenerator) -> np.ndarray:
    generator.note("coins", sample_rate)
    return np.arange(n)


@dataclass
class Doomed:
    """Workers of which all are killed after the first shard of the pass with a given number."""

    workers: Workers
    dies_in: int = 0
    passes: int = 0

    @property
    def count(self) -> int:
        return self.workers.count

    here = False

    def map_shards(self, function: Callable[[Any], Any], shards: Iterable[Any]) -> Iterator[Any]:
        self.passes += 1
        if self.passes <= self.dies_in:
            return self.workers.map_shards(function, shards)
        victims = set(self.workers.map_shards(process_id, range(16)))
        return self.workers.map_shards(function, self._until(victims, shards))

    def _until(self, victims: set[int], shards: Iterable[Any]) -> Iterator[Any]:
        first, *rest = shards
        yield first
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        yield from rest


def exact_sums(release: Release, workers: Workers, shards: int, **changes: Any) -> np.ndarray:
    """The sums of features over everybody, from so many shards."""
    function = feature_sums.ShardSums(
        CellSums(noise_multiplier=1.0, sample_rate=1.0, attributes=3),
        release.schema,
        replace(mean_pairs.feature_map(release), **changes),
        release.compute,
    )
    people = np.arange(len(load_train(release)))
    parts = [
        (PairsShard(train_folder(release), rows), None) for rows in np.array_split(people, shards)
    ]
    return sum(workers.map_shards(function, parts))


def write_networks(release: Release) -> None:
    """Untrained networks, where a pretrained and a released one would be."""
    network, models = release.new_network(), release.models
    for file in (pretrained_checkpoint.CHECKPOINT, *image_model.FILES):
        save_network(network, models / file)
    finisher = pretrained_checkpoint.new_finisher(release)
    save_network(finisher, models / pretrained_checkpoint.FINISHER)
    detail = DetailNetwork(release.schema.width, release.image_shape, release.recipe.detail)
    save_network(detail, models / detail_model.FILES[0])


def job_of(release: Release) -> shared_steps.Job:
    return shared_steps.Job(
        prepare=partial(
            image_model.prepared, release.public_models(), train_folder(release), "layers", 32
        ),
        mechanism=release.mechanism(DPSGD),
        microbatch=32,
        autocast=release.compute.autocast,
    )


def step_sums(release: Release, workers: Workers, shards: int) -> np.ndarray:
    """The sum of everybody's clipped gradients, from at most so many shards."""
    job = job_of(release)
    weights = {n: p.detach().numpy() for n, p in release.new_network().named_parameters()}
    function = shared_steps.StepSums(job, weights, b"k" * 32)
    chosen = np.arange(len(load_train(release)))
    found = workers.map_shards(function, shared_steps.divide(chosen, job.microbatch, shards))
    return sum(part.total for part in found)


def drawn(release: Release, workers: Workers) -> list[np.ndarray]:
    """The images of a few chunks."""
    codes = load_train(release).codes[:24]
    chunks = enumerate(np.split(np.array(codes), 3))
    return list(workers.map_shards(ChunkImages(release.public_models(), seed=1), chunks))


def decoded(release: Release, workers: Workers) -> list[bytes]:
    """The pairs read from the data again, and what became of the rows."""
    decoder = Decoder(release.private / "again", workers)
    train, held_out, counts = read_pairs(
        release.root / "data", release.schema, heldout_key=b"k" * 16, decode=decoder
    )
    assert len(train) > 200
    return [*(p.images.tobytes() for p in (train, held_out)), str(counts).encode()]


def check_equal(release: Release, workers: Workers) -> None:
    """The same integers from 1, 2 and 7 shards, and the same images, as in this process."""
    write_networks(release)
    pooled = partial(exact_sums, perceptual_share=0.0)
    for sums, numbers in ((exact_sums, (2,)), (pooled, (1, 2, 7)), (step_sums, (1, 2, 7))):
        expected = sums(release, InProcess(), 1)
        assert expected.dtype == np.int64 and expected.any()
        for number in numbers:
            assert np.array_equal(sums(release, workers, number), expected), sums
    images = drawn(release, InProcess())
    assert np.ptp(images[0]) > 0
    assert np.array_equal(drawn(release, workers), images)
    assert decoded(release, workers) == decoded(release, InProcess())


def check_lost_decoding(
    release: Release, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers killed while they decode: one sentence, and the next try reads everybody."""
    read = partial(
        pairs.read, release, release.root / "data", heldout_key=b"k" * 16, progress=silent
    )
    with monkeypatch.context() as patch:
        patch.setattr(Compute, "open_workers", lambda self: nullcontext(Doomed(workers)))
        with pytest.raises(WorkerLost, match="a worker process ended before its work was done"):
            read()
    assert release.ledger.release(release.id).status == "OPENED"
    assert [p.name for p in release.private.iterdir()] == ["decoding"]
    read()
    train, held_out = pairs.load_train(release), pairs.load_heldout(release)
    assert len(train) + len(held_out) == 300 and len(held_out) > 5
    assert sorted(p.name for p in release.private.iterdir()) == ["counts.json", "heldout", "train"]


def check_lost_statistics(
    release: Release, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers killed within a pass: one sentence, nothing begun, and a free second try."""
    monkeypatch.setattr(shards, "_CHUNK", 50)
    subsample.draw(release)
    for name, stage in (("table_model", table_model.fit), ("mean_pairs", mean_pairs.measure)):
        with monkeypatch.context() as patch:
            patch.setattr(Compute, "open_workers", lambda self: nullcontext(Doomed(workers)))
            with pytest.raises(WorkerLost, match="a worker process ended before its work was done"):
                stage(release, silent)
        assert release.ledger.release(release.id).stages[name].starts == 0
        assert stage(release, silent) is True
        record = release.ledger.release(release.id).stages[name]
        assert record.starts == 1 and record.artifacts is not None


def check_lost_steps(release: Release, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers killed within a step: what drew noise was authorised, and the run goes on."""
    write_networks(release)
    paid: list[int] = []
    draw = SecureGenerator.rounded_gaussian

    def noise(self: SecureGenerator, shape: Any, *, sigma: float) -> np.ndarray:
        paid.append(release.ledger.release(release.id).stages["image_model"].steps)
        return draw(self, shape, sigma=sigma)

    monkeypatch.setattr(SecureGenerator, "rounded_gaussian", noise)
    monkeypatch.setattr(private_training, "poisson_sample", everybody)
    mechanism = release.mechanism(DPSGD)
    executed = {mechanism.name: mechanism.parameters()}
    release.ledger.begin(release.id, "image_model", executed)
    with pytest.raises(WorkerLost):
        image_model.run_steps(release, mechanism, Doomed(workers, dies_in=3), silent)
    # The last of four steps lost its workers. Its noise may have been drawn, and is in no sum.
    lost = len(paid)
    assert paid[:3] == [2, 2, 4] and paid[3:] in ([], [4])
    release.ledger.begin(release.id, "image_model", executed)
    image_model.run_steps(release, mechanism, InProcess(), silent)
    assert paid[lost:] == [6, 6]  # the last range again, as a replay that the plan has paid for
