"""Reading opens the reservation first; the sample for the mean pairs serves once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dagster_project.data.progress import silent
from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline import pairs, subsample
from dagster_project.pipeline.release import Release


def test_the_reservation_is_opened_before_a_byte_is_read(reserved, monkeypatch):
    seen = []

    def spy(*_, **__):
        seen.append(reserved.ledger.release(reserved.id).status)
        raise KeyboardInterrupt

    monkeypatch.setattr(pairs, "read_pairs", spy)
    assert reserved.ledger.release(reserved.id).status == "RESERVED"
    with pytest.raises(KeyboardInterrupt):
        pairs.read(reserved, reserved.root / "data", heldout_key=b"k" * 32, progress=silent)
    assert seen == ["OPENED"]


def test_people_are_read_once_and_held_out_people_never_train(opened, monkeypatch):
    train, held_out = pairs.load_train(opened), pairs.load_heldout(opened)
    assert len(train) + len(held_out) == 300 and len(held_out) > 5
    assert train.images.shape[1:] == (1, 12, 12)
    monkeypatch.setattr(pairs, "read_pairs", lambda *_, **__: pytest.fail("read again"))
    pairs.read(opened, opened.root / "data", heldout_key=b"k" * 32, progress=silent)


def test_what_was_read_lies_in_the_private_zone_alone(opened):
    made = {p.relative_to(opened.root).parts[0] for p in opened.root.rglob("*") if p.is_file()}
    assert made == {"data", "population.yaml", "ledger", "models", "private"}
    assert [p.name for p in opened.models.rglob("*")] == ["schema.json"]


def test_at_rate_one_the_sample_is_everybody_and_serves_once(opened):
    subsample.draw(opened)
    assert len(subsample.load(opened)) == len(pairs.load_train(opened))
    subsample.discard(opened)
    with pytest.raises(FileNotFoundError):
        subsample.load(opened)
    assert not list(opened.private.glob("subsample*"))


def test_below_rate_one_every_person_has_a_fresh_coin(opened, monkeypatch):
    sampled = replace(opened.mechanism(CellSums), sample_rate=0.3)
    monkeypatch.setattr(Release, "mechanism", lambda self, kind: sampled)
    train, drawn = pairs.load_train(opened), []
    for _ in range(3):
        subsample.draw(opened)
        drawn.append(subsample.load(opened))
    sizes = [len(d) for d in drawn]
    spread = 6 * np.sqrt(len(train) * 0.3 * 0.7)
    assert all(abs(size - 0.3 * len(train)) < spread for size in sizes)
    first, second = (d.tobytes() for d in drawn[:2])
    assert first != second
