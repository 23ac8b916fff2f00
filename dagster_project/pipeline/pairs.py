"""Opens the reservation, then reads the pairs: from here on the release is spent. Private.

It writes only to the private zone.
"""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.reading import read_pairs
from dagster_project.pipeline.decoding import Decoder
from dagster_project.pipeline.release import Release


def read(release: Release, data_dir: Path, *, heldout_key: bytes, progress: Progress) -> None:
    """Write `private/<id>/train`, `heldout` and `counts.json`, unless they exist already.

    The ledger's OPENED entry is durable before the first byte of a record is read, by whichever
    process, and only people of the cohorts charged for the release are used for training. A cluster
    that does not answer ends the stage before that.
    """
    finished, folder = release.private / "counts.json", release.private / "decoding"
    with nullcontext() if finished.is_file() else release.compute.open_workers() as workers:
        release.ledger.open_reservation(release.id)
        if workers is None:
            return
        shutil.rmtree(folder, ignore_errors=True)  # of a try that ended early
        release.private.mkdir(parents=True, exist_ok=True)
        train, heldout, counts = read_pairs(
            data_dir.absolute(),
            release.schema,
            heldout_key=heldout_key,
            admit=partial(release.ledger.admit, release.id, id_rule=release.schema.person_id_rule),
            progress=progress,
            decode=Decoder(folder.absolute(), workers),
        )
    train.save(train_folder(release))
    heldout.save(release.private / "heldout")
    shutil.rmtree(folder, ignore_errors=True)
    finished.write_text(json.dumps(asdict(counts), indent=1))


def train_folder(release: Release) -> Path:
    """Return the folder of the private training pairs."""
    return release.private / "train"


def load_train(release: Release) -> Pairs:
    """Load the private training pairs."""
    return Pairs.load(train_folder(release))


def load_heldout(release: Release) -> Pairs:
    """Load the held-out pairs, which no mechanism sees."""
    return Pairs.load(release.private / "heldout")
