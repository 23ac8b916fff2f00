"""Opens the reservation, then reads: from here on the release is spent. Private.

Also the Poisson sample that the mean pairs are made of. Both write to the private zone alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from dagster_project.pairs.mean_pairs import CellSums
from dagster_project.pairs.pairs import Pairs
from dagster_project.pairs.progress import Progress
from dagster_project.pairs.reading import read_pairs
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.stages.release import Release


def read(release: Release, data_dir: Path, *, heldout_key: bytes, progress: Progress) -> None:
    """Writes `private/<id>/train`, `heldout` and `counts.json`; keeps what is there already.

    The ledger's OPENED entry is durable before the first byte of a record is read, and only
    people of the blocks that the release is charged to come to train.
    """
    release.ledger.open_reservation(release.id)
    finished = release.private / "counts.json"
    if finished.is_file():
        return
    release.private.mkdir(parents=True, exist_ok=True)
    train, heldout, counts = read_pairs(
        data_dir,
        release.schema,
        heldout_key=heldout_key,
        admit=partial(release.ledger.admit, release.id, id_rule=release.schema.person_id_rule),
        progress=progress,
        scratch=release.private / "decoding",
    )
    train.save(release.private / "train")
    heldout.save(release.private / "heldout")
    shutil.rmtree(release.private / "decoding", ignore_errors=True)
    finished.write_text(json.dumps(asdict(counts), indent=1))


def load_train(release: Release) -> Pairs:
    """The private training pairs."""
    return Pairs.load(release.private / "train")


def load_heldout(release: Release) -> Pairs:
    """The held-out pairs, which no mechanism sees."""
    return Pairs.load(release.private / "heldout")


def subsample(release: Release) -> None:
    """Draws the Poisson sample for the mean pairs from a fresh key of the operating system.

    The sample belongs to one reservation and is used once: `mean_pairs` destroys it. At rate 1
    it is everybody; where the plan has no mean pairs there is none.
    """
    if not release.spends("mean_pairs"):
        return
    if release.ledger.release(release.id).stages["mean_pairs"].starts:
        return  # it took its sample, and takes no other
    people = len(load_train(release))
    mechanism, generator = release.mechanism(CellSums), SecureGenerator()
    chosen = mechanism.sample(people, generator=generator)
    mechanism.verify_sample(generator.uses)
    np.save(_sample_file(release), chosen)


def take_subsample(release: Release) -> Pairs:
    """The sampled pairs; the sample itself is gone afterwards, so that it serves once alone.

    A sample used twice would lose its amplification by sampling.
    """
    file = _sample_file(release)
    chosen = np.load(file, allow_pickle=False)
    file.unlink()
    return load_train(release).take(chosen)


def _sample_file(release: Release) -> Path:
    return release.private / "subsample.npy"
