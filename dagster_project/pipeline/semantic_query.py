"""Asks which public labels the private images are like, once, in the form the recipe names.

As a histogram it is a Gaussian mechanism with a share of the budget; as a column of the table it
is an answer of the table model, which has been paid for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dagster_project.data.progress import Progress
from dagster_project.pipeline import public_images, table_model
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Release
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.public_data.query import LabelCounts
from dagster_project.table.measurements import TableMeasurement

ANSWER = "semantic_query.npz"
FILES = (*public_images.FILES, ANSWER)


@dataclass(frozen=True)
class Answer:
    """How often private images with each attribute value are like each public label.

    Attributes:
        counts: (cells, labels), noisy.
        noise_std: Standard deviation of the noise in each count (in the form of a column about
            that of the measured marginals).
    """

    counts: np.ndarray
    noise_std: float

    def save(self, folder: Path) -> None:
        """Write an npz without pickle into `folder`."""
        with (folder / ANSWER).open("wb") as stream:
            np.savez(stream, counts=self.counts, noise_std=np.array(self.noise_std))

    @classmethod
    def load(cls, folder: Path) -> Answer:
        """What `save` wrote."""
        with np.load(folder / ANSWER, allow_pickle=False) as arrays:
            return cls(arrays["counts"], float(arrays["noise_std"]))


def ask(release: Release, progress: Progress) -> bool:
    """Write `models/<id>/semantic_query.npz`, and enter the pool's files in the ledger with it.
    Without a public pool it does nothing."""
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

    def run() -> None:
        generator = SecureGenerator()
        pool = public_images.load_pool(release)
        people = load_train(release)
        top = public_images.load_classifier(release).top(people.images, mechanism.top_k, progress)
        counts = mechanism.run(
            top,
            release.schema.one_hot(people.codes),
            labels=len(pool.names),
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
    )


def load(release: Release) -> Answer:
    """The released answer."""
    return Answer.load(release.models)


def _from_table(release: Release) -> Answer:
    """The table model's joint distributions of the label and every attribute, as counts."""
    whole = table_model.load_whole(release).model
    counts = whole.total * np.concatenate(
        [whole.marginal((name, table_model.LABEL)) for name in release.schema.names]
    )
    labels = len(public_images.load_pool(release).names)
    return Answer(counts[:, :labels], release.mechanism(TableMeasurement).sigma)
