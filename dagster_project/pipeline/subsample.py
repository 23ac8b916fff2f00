"""The Poisson sample of people that the mean pairs are made from. Private, and used only once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Release
from dagster_project.privacy.noise import SecureGenerator


def draw(release: Release) -> None:
    """Draw the Poisson sample for the mean pairs from a fresh key of the operating system.

    The sample belongs to one reservation and is used only once: `mean_pairs` discards it. At rate 1
    it is everybody; a plan without mean pairs has no sample.
    """
    if not release.spends("mean_pairs"):
        return
    if release.ledger.release(release.id).stages["mean_pairs"].starts:
        return  # it has already taken its sample and must not take another
    people = len(load_train(release))
    mechanism, generator = release.mechanism(CellSums), SecureGenerator()
    chosen = mechanism.sample(people, generator=generator)
    mechanism.verify_sample(generator.uses)
    np.save(_sample_file(release), chosen)


def load(release: Release) -> np.ndarray:
    """Return the sampled rows of the training pairs."""
    return np.load(_sample_file(release), allow_pickle=False)


def discard(release: Release) -> None:
    """Delete the sample before noise is drawn for it: used twice, it would not amplify privacy."""
    _sample_file(release).unlink()


def _sample_file(release: Release) -> Path:
    return release.private / "subsample.npy"
