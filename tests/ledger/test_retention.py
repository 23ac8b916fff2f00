"""The private zone ends, and nothing else does."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dagster_project.ledger import Ledger, UnknownRelease, chain, retention
from tests.ledger.toys import plan, population


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch) -> Ledger:
    """Two releases, 40 days and 1 day old, each with a private zone."""
    ledger = Ledger.open(population(tmp_path))
    for name, days in (("old", 40), ("new", 1)):

        class Clock:
            age = timedelta(days=days)

            @classmethod
            def now(cls, zone):
                return datetime.now(zone) - cls.age

        with monkeypatch.context() as patch:
            patch.setattr(chain, "datetime", Clock)
            ledger.reserve(plan(name), approved_by="x", schema_public=False)
        ledger.open_reservation(name)
        for folder in (f"private/{name}/train", f"models/{name}", f"releases/{name}-n5-seed2"):
            (tmp_path / folder).mkdir(parents=True)
        (tmp_path / f"private/{name}/train/images.npy").write_bytes(b"secret")
    return ledger


def test_what_is_old_is_found_and_purged(ledger: Ledger, tmp_path: Path) -> None:
    assert retention.expired(ledger, tmp_path, days=30) == ["old"]
    assert retention.expired(ledger, tmp_path, days=0.5) == ["old", "new"]
    before = ledger.cohorts()
    done = retention.purge(ledger, tmp_path, "old")
    assert done.files == 1 and not (tmp_path / "private/old").exists()
    assert (tmp_path / "private/new/train/images.npy").is_file()
    text = "\n".join(done.remains)
    assert "models/old" in text and "releases/old-n5-seed2" in text and "backup" in text
    assert ledger.release("old").facts == ({retention.NOTE: "purged"},)
    assert ledger.cohorts() == before  # nothing is given back
    assert retention.expired(ledger, tmp_path, days=30) == []


def test_purging_again_is_noted_once(ledger: Ledger, tmp_path: Path) -> None:
    for _ in range(2):
        retention.purge(ledger, tmp_path, "old")
    assert len(ledger.release("old").facts) == 1


def test_only_a_release_of_the_ledger_is_purged(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("unknown", "../private", "..", "", "new/train"):
        with pytest.raises(UnknownRelease):
            retention.purge(ledger, tmp_path, name)
    assert (tmp_path / "private/new/train/images.npy").is_file()


def test_a_deletion_that_fails_is_not_noted(ledger: Ledger, tmp_path: Path, monkeypatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        patch.setattr(retention.shutil, "rmtree", refuse)
        retention.purge(ledger, tmp_path, "old")
    assert not ledger.release("old").facts


def test_old_trace_backs_go_too(tmp_path: Path) -> None:
    folder = tmp_path / "private/errors"
    folder.mkdir(parents=True)
    for name, days in (("a.txt", 40), ("b.txt", 1)):
        (folder / name).write_text("private")
        moment = time.time() - days * 86400
        os.utime(folder / name, (moment, moment))
    assert retention.purge_errors(tmp_path, days=30) == 1
    assert [path.name for path in folder.iterdir()] == ["b.txt"]
