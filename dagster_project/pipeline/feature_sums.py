"""Exact sums of image features over the cells of records, computed in shards. Private."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dagster_project.compute.workers import Workers
from dagster_project.data.pairs import PairsShard
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline.pairs import train_folder
from dagster_project.pipeline.release import Compute, Release
from dagster_project.pipeline.shards import parts, told


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
    for sums in told(workers, function, shards, progress, "summing features"):
        total = total + sums
    return total
