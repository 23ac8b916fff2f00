"""Runs the semantic query once: which public labels the private images resemble.

The recipe sets its form. As a histogram it is a Gaussian mechanism with a share of the budget; as a
column of the table it is answered by the table model, which is already paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dagster_project.data.progress import Progress
from dagster_project.pipeline import public_images, statistics, table_model
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Release
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.public_data.query import LabelCounts
from dagster_project.table.measurements import TableMeasurement

ANSWER = "semantic_query.npz"
FILES = (*public_images.FILES, ANSWER)


@dataclass(frozen=True)
class Answer:
    """The noisy counts of private images with each attribute value that resemble each public label.

    Attributes:
        counts: (cells, labels), noisy.
        noise_std: Standard deviation of the noise in each count (approximately that of the measured
            marginals if the query is a column).
    """

    counts: np.ndarray
    noise_std: float

    def save(self, folder: Path) -> None:
        """Write an npz without pickle into `folder`."""
        with (folder / ANSWER).open("wb") as stream:
            np.savez(stream, counts=self.counts, noise_std=np.array(self.noise_std))

    @classmethod
    def load(cls, folder: Path) -> Answer:
        """Load what `save` wrote."""
        with np.load(folder / ANSWER, allow_pickle=False) as arrays:
            return cls(arrays["counts"], float(arrays["noise_std"]))


def ask(release: Release, progress: Progress) -> bool:
    """Write `models/<id>/semantic_query.npz`, and enter it and the pool's files in the ledger.

    Does nothing without a public pool.
    """
    if not public_images.used(release):
        return False
    if not release.spends("semantic_query"):
        return release.once(
            "semantic_query",
            lambda: _from_table(release).save(release.models),
            executed=None,
            files=FILES,
            parents=("table_model",),
        )
    mechanism = release.mechanism(LabelCounts)

    people = load_train(release)

    def labels() -> np.ndarray:
        with release.compute.open_workers() as workers:
            return statistics.top_labels(release, mechanism.top_k, len(people), workers, progress)

    def run(top: np.ndarray) -> None:
        generator = SecureGenerator()
        counts = mechanism.run(
            top,
            release.schema.one_hot(people.codes),
            labels=len(public_images.load_pool(release).names),
            generator=generator,
        )
        mechanism.verify(generator.uses)
        Answer(counts, mechanism.noise_std).save(release.models)

    return release.once(
        "semantic_query",
        run,
        executed={mechanism.name: mechanism.parameters()},
        files=FILES,
        parents=("table_model",),
        prepare=labels,
    )


def load(release: Release) -> Answer:
    """Load the released answer."""
    return Answer.load(release.models)


def _from_table(release: Release) -> Answer:
    """Return the table model's joint distributions of label and every attribute, as counts."""
    whole = table_model.load_whole(release).model
    counts = whole.total * np.concatenate(
        [whole.marginal((name, table_model.LABEL)) for name in release.schema.names]
    )
    labels = len(public_images.load_pool(release).names)
    return Answer(counts[:, :labels], release.mechanism(TableMeasurement).sigma)
