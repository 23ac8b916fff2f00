"""Labels of the private images and tallies of their records, computed in shards. Private."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dagster_project.compute.workers import Workers
from dagster_project.data.pairs import PairsShard
from dagster_project.data.progress import Progress, silent
from dagster_project.pipeline import public_images
from dagster_project.pipeline.pairs import train_folder
from dagster_project.pipeline.release import Release
from dagster_project.pipeline.shards import parts, told
from dagster_project.public_data.query import LabelClassifier
from dagster_project.table import marginals


@dataclass(frozen=True)
class ShardLabels:
    """The k most likely public labels of each image of one shard."""

    classifier: LabelClassifier
    k: int

    def __call__(self, shard: PairsShard) -> np.ndarray:
        return self.classifier.top(shard.load().images, self.k, silent)


def top_labels(
    release: Release, k: int, people: int, workers: Workers, progress: Progress
) -> np.ndarray:
    """Return the k most likely public labels of each training image, int16 (people, k)."""
    function = ShardLabels(public_images.load_classifier(release), k)
    shards = [PairsShard(train_folder(release), rows) for rows in parts(people, workers.count)]
    labels = told(workers, function, shards, progress, "labels of the images")
    return np.concatenate(list(labels))


def tally(codes: np.ndarray, sizes: Sequence[int], *, workers: Workers) -> marginals.Tally:
    """Return `marginals.tally` of all records."""
    shards = [codes[rows] for rows in parts(len(codes), workers.count)]
    first, *rest = workers.map_shards(partial(marginals.tally, sizes=sizes), shards)
    return sum(rest, start=first)
