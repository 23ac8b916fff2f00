"""Checkpoints of private training: whole or not at all, and read back bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dagster_project.image.coarse import pool
from dagster_project.image.training_state import TrainingState
from dagster_project.pipeline import image_model
from dagster_project.pipeline.image_model import load_state, save_state
from dagster_project.pipeline.pairs import load_train


def state(step: int) -> TrainingState:
    tensor = torch.arange(6.0).reshape(2, 3) + step
    return TrainingState(
        step=step,
        model={"a.b": tensor, "c": -tensor},
        ema={"a.b": tensor / 3, "c": tensor / 7},
        moments={"first.a.b": tensor + 1, "second.a.b": tensor**2},
    )


def test_checkpoints_read_back(tmp_path):
    assert load_state(tmp_path / "new") is None
    for step in (2, 4):
        save_state(tmp_path / "new", state(step))
    found = load_state(tmp_path / "new")
    assert found.step == 4
    for part in ("model", "ema", "moments"):
        expected, read = getattr(state(4), part), getattr(found, part)
        assert expected.keys() == read.keys()
        assert all(torch.equal(read[n], t) for n, t in expected.items())


def test_a_crash_while_saving_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save_state(tmp_path, state(2))

    def dies(tensors, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(image_model, "save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, state(4))
    assert load_state(tmp_path).step == 2


def test_nobodys_draws_follow_who_else_is_sampled(opened, monkeypatch):
    """Given the step's key: the first person left out moves all others to another place."""
    monkeypatch.setattr(image_model.os, "urandom", lambda n: bytes(range(n)))
    pairs, cpu = load_train(opened), torch.device("cpu")

    def rows(chosen):
        found = image_model.microbatches(pairs, opened, np.array(chosen), chunk=4, device=cpu)
        names = ("image", "record", "sigma", "noise", "condition_mask")
        whole = {n: [] for n in names}
        for part in found:
            for n in names:
                whole[n].append(part[n][part["present"]])
        return {n: torch.cat(parts) for n, parts in whole.items()}

    everybody, without = rows([0, 3, 4, 9, 20]), rows([3, 4, 9, 20])
    assert all(torch.equal(everybody[n][1:], without[n]) for n in everybody)
    monkeypatch.setattr(image_model.os, "urandom", lambda n: bytes(n))
    assert not torch.equal(rows([3, 4, 9, 20])["noise"], without["noise"])
    assert len(torch.unique(without["sigma"])) == without["sigma"].numel()  # of each person


def test_microbatches_bring_every_chosen_person_once(opened):
    pairs, chosen = load_train(opened), np.array([0, 3, 4, 9, 20])
    found = list(
        image_model.microbatches(pairs, opened, chosen, chunk=2, device=torch.device("cpu"))
    )
    assert [len(b["image"]) for b in found] == [2, 2, 2]  # the last is filled up
    assert [b["present"].tolist() for b in found] == [[True, True]] * 2 + [[True, False]]
    images = torch.cat([b["image"][b["present"]] for b in found])
    expected = pool(torch.from_numpy(pairs.take(chosen).images).float() / 127.5 - 1, (6, 6))
    assert torch.equal(images, expected) and images.min() >= -1 and images.max() <= 1
    records = torch.cat([b["record"][b["present"]] for b in found]).numpy()
    assert (records == opened.schema.one_hot(pairs.take(chosen).codes)).all()
    draws = opened.recipe.dp_sgd.noise_draws
    assert all(b["sigma"].shape[1] == b["noise"].shape[1] == draws for b in found)
    # None is wasted on levels that the finisher draws.
    assert all((b["sigma"] >= 0.75 * opened.recipe.coarse.handover).all() for b in found)
    assert not list(image_model.microbatches(pairs, opened, chosen[:0], chunk=2,
                                             device=torch.device("cpu")))  # fmt: skip
