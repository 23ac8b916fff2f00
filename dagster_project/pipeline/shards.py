"""How the people of a release are divided into shards, for a stage's workers.

A shard is some rows of the pairs, or of the table's codes. Its result is exact, so the division
into shards changes no bit, and the stage adds the noise once, to the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dagster_project.compute.workers import Result, Shard, Workers
from dagster_project.data.progress import Progress

# Between too many sums on their way and workers without work at the end of a pass; whole chunks of
# `embeddings.cell_sums`, because the rest of a chunk is filled up.
_CHUNK, _LARGEST, _SHARDS = 256, 8192, 8


def parts(people: int, workers: int) -> list[np.ndarray]:
    """Divide the numbers 0 to `people` - 1 into consecutive parts; nobody is one empty part."""
    chunks = math.ceil(people / (_SHARDS * workers * _CHUNK))
    size = min(max(chunks, 1) * _CHUNK, _LARGEST)
    return [np.arange(s, min(s + size, people)) for s in range(0, max(people, 1), size)]


def told(
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
