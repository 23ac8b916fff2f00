"""Exact statistics of the private pairs, computed in shards by a stage's workers. Private.

A shard is some rows of the pairs, or of the table's codes. Its result is exact, so the division
into shards changes no bit, and the stage adds the noise once, to the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dagster_project.compute.workers import Result, Shard, Workers
from dagster_project.data.pairs import PairsShard
from dagster_project.data.progress import Progress, silent
from dagster_project.data.schema import Schema
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline import public_images
from dagster_project.pipeline.pairs import train_folder
from dagster_project.pipeline.release import Compute, Release
from dagster_project.public_data.query import LabelClassifier
from dagster_project.table import marginals

# Between too many sums on their way and workers without work at the end of a pass; whole chunks of
# `embeddings.cell_sums`, because the rest of a chunk is filled up.
_CHUNK, _LARGEST, _SHARDS = 256, 8192, 8


@dataclass(frozen=True)
class ShardSums:
    """The mechanism's exact sums over one shard.

    Attributes:
        mechanism: The sums that the plan declares.
        schema: The public contract.
        feature_map: The public map.
        compute: The workers' device.
    """

    mechanism: CellSums
    schema: Schema
    feature_map: FeatureMap
    compute: Compute

    def __call__(self, shard: tuple[PairsShard, np.ndarray | None]) -> np.ndarray:
        """Return `CellSums.exact` of the people, by their own codes or by those given."""
        people, codes = shard[0].load(), shard[1]
        one_hot = self.schema.one_hot(people.codes if codes is None else codes)
        device = self.compute.torch_device
        return self.mechanism.exact(people.images, one_hot, self.feature_map, device=device)


@dataclass(frozen=True)
class ShardLabels:
    """The k most likely public labels of each image of one shard."""

    classifier: LabelClassifier
    k: int

    def __call__(self, shard: PairsShard) -> np.ndarray:
        return self.classifier.top(shard.load().images, self.k, silent)


def cell_sums(
    release: Release,
    function: ShardSums,
    chosen: np.ndarray,
    groups: np.ndarray | None,
    workers: Workers,
    progress: Progress,
) -> np.ndarray:
    """Return the exact sums of features over the sampled people.

    Args:
        release: The release.
        function: What to sum.
        chosen: Rows of the sampled people, each once.
        groups: Codes (people, d) to use instead of their own, or None.
        workers: Where it runs.
        progress: Callback that receives the fraction done and a text.

    Returns:
        See `CellSums.exact`.
    """
    folder, total = train_folder(release), np.zeros((), np.int64)
    shards = [
        (PairsShard(folder, chosen[part]), None if groups is None else groups[part])
        for part in parts(len(chosen), workers.count)
    ]
    for sums in _told(workers, function, shards, progress, "summing features"):
        total = total + sums
    return total


def top_labels(
    release: Release, k: int, people: int, workers: Workers, progress: Progress
) -> np.ndarray:
    """Return the k most likely public labels of each training image, int16 (people, k)."""
    function = ShardLabels(public_images.load_classifier(release), k)
    shards = [PairsShard(train_folder(release), rows) for rows in parts(people, workers.count)]
    labels = _told(workers, function, shards, progress, "labels of the images")
    return np.concatenate(list(labels))


def tally(codes: np.ndarray, sizes: Sequence[int], *, workers: Workers) -> marginals.Tally:
    """Return `marginals.tally` of all records."""
    shards = [codes[rows] for rows in parts(len(codes), workers.count)]
    first, *rest = workers.map_shards(partial(marginals.tally, sizes=sizes), shards)
    return sum(rest, start=first)


def parts(people: int, workers: int) -> list[np.ndarray]:
    """Divide the numbers 0 to `people` - 1 into consecutive parts; nobody is one empty part."""
    chunks = math.ceil(people / (_SHARDS * workers * _CHUNK))
    size = min(max(chunks, 1) * _CHUNK, _LARGEST)
    return [np.arange(s, min(s + size, people)) for s in range(0, max(people, 1), size)]


def _told(
    workers: Workers,
    function: Callable[[Shard], Result],
    shards: Sequence[Shard],
    progress: Progress,
    text: str,
) -> Iterator[Result]:
    """Yield the results of all shards, and report the fraction done."""
    for done, result in enumerate(workers.map_shards(function, shards), start=1):
        progress(done / len(shards), text)
        yield result
