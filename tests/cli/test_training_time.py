"""--train-minutes: a measured time becomes a limit of steps, the same for a repeated request."""

from __future__ import annotations

import json
import platform
from argparse import Namespace
from pathlib import Path

import pytest

from dagster_project.benchmark import budget, rehearsal
from dagster_project.cli import main as cli
from dagster_project.cli import place
from dagster_project.data.schema import Schema
from dagster_project.pipeline.release import Compute
from dagster_project.settings.recipe import Recipe
from tests.toy_project import write_project

TOLD = {"preset": "default", "epsilon": 3.0, "minimum_people": None}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


def options(root: Path, minutes: float | None, **settings: object) -> Namespace:
    return Namespace(
        root=root,
        data=root / "data",
        train_minutes=minutes,
        settings=list(settings.items()),
        **TOLD,
    )


def test_minutes_become_a_limit_of_steps(root, monkeypatch):
    monkeypatch.setattr(rehearsal, "training_seconds", lambda *_, **__: 0.25)
    assert place.settings_of(options(root, 2))["dp_sgd.most_steps"] == 480
    assert "dp_sgd.most_steps" not in place.settings_of(options(root, None))
    monkeypatch.setattr(rehearsal, "training_seconds", lambda *_, **__: 61.0)
    for minutes, settings, words in (
        (1, {}, "too short"),
        (-1, {}, "positive"),
        (1, {"dp_sgd.steps": 9}, "not both"),
        (1, {"budget_split.image": 0.0}, "without"),
    ):
        with pytest.raises(ValueError, match=words):
            place.settings_of(options(root, minutes, **settings))


def test_a_step_is_timed_once_on_drawn_input(root, tmp_path, monkeypatch):
    schema = Schema.from_file(root / "data" / "schema.yaml")
    recipe = Recipe().changed(
        {
            "sampler.model": "diffusion",
            "network.channels": [8],
            "dp_sgd.batch": 8,
            "dp_sgd.noise_draws": 1,
        }
    )
    times = []
    monkeypatch.setattr(
        budget, "seconds_per_step", lambda run, **clock: times.append(run(1)) or 0.5
    )
    for machine in ("one pod", "the next"):  # a release continues wherever it is started again
        monkeypatch.setattr(platform, "node", lambda machine=machine: machine)
        found = rehearsal.training_seconds(schema, recipe, Compute(device="cpu"), cache=tmp_path)
        assert found == 0.5
    assert len(times) == 1


def test_a_plan_has_the_steps_that_the_time_pays_for(root, monkeypatch, capsys):
    monkeypatch.setattr(rehearsal, "training_seconds", lambda *_, **__: 2.0)
    told = ["plan", "--root", str(root), "--data", str(root / "data"), "--train-minutes", "1"]
    told += [
        "--delta",
        "1e-4",
        "--set",
        "budget_split.image=1",
        "--json",
        "--set",
        "table.rounds=1",
    ]
    assert cli.main(told) == 0
    recipe = json.loads(capsys.readouterr().out)["plan"]["recipe"]
    assert recipe["dp_sgd"]["most_steps"] == 30
