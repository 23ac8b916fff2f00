"""Counter-measures that no other test would miss, and the table in docs/threats.md itself."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from dagster_project.audits import faults, suite
from dagster_project.data.schema import Schema
from dagster_project.image.private_training import train_private
from dagster_project.orchestration.definitions import STAGE_ASSETS, build_definitions
from dagster_project.planning import planner
from dagster_project.planning.mechanisms import mechanisms
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.recipe import Recipe
from tests.data.toys import SCHEMA

ROOT = Path(__file__).parents[1]
FREE = {"dataset"}  # reads no record and spends nothing


def test_training_parameters_come_from_public_numbers_alone() -> None:
    """Neither the rate nor the divisor knows how many people there really are."""
    recipe = Recipe().changed({"dp_sgd.steps": 60})
    (image,) = (m for m in mechanisms(SCHEMA, recipe, mu=0.3) if m.name == "image_model")
    rate = min(1.0, recipe.dp_sgd.batch / SCHEMA.n_public)
    assert image.declared["sample_rate"] == rate
    assert image.declared["expected_batch_size"] == rate * SCHEMA.n_public
    takes = set(inspect.signature(planner.build_plan).parameters)
    assert not takes & {"people", "n", "rows", "pairs", "data"}
    larger = Schema.from_dict(SCHEMA.to_dict() | {"n_public": 10 * SCHEMA.n_public})
    assert mechanisms(larger, recipe, mu=0.3)[-1].declared["sample_rate"] < 1


def test_training_takes_the_last_step_whatever_the_loss_does() -> None:
    """Choosing among steps by a figure of private data would be an uncharged release."""
    model = nn.Linear(3, 1, bias=False)
    seen: list[torch.Tensor] = []
    average = train_private(
        model,
        lambda batch, out=None: batch["g"].flatten(1),
        lambda chosen: iter([{"g": torch.full((len(chosen), 1, 3), -5.0)}]),  # ever uphill
        20,
        mechanism=faults.dp_sgd(steps=6, noise_multiplier=0.5, expected_batch_size=20.0),
        learning_rate=0.1,
        ema_half_life=0.01,  # the average is the step itself
        checkpoint_steps=2,
        authorise=lambda first, end: None,
        save=lambda state: seen.append(state.model["weight"].clone()),
        resume=None,
        generator=SecureGenerator(),
        progress=lambda fraction, text: None,
    )
    assert len(seen) == 3
    assert torch.allclose(average["weight"], seen[-1]) and not torch.allclose(seen[0], seen[-1])


def test_no_asset_is_ever_retried() -> None:
    for asset in STAGE_ASSETS:
        assert asset.op.retry_policy is None, asset.key
    job = build_definitions().resolve_job_def("release")
    assert job.tags["dagster/max_retries"] == "0"
    instance = yaml.safe_load(
        (ROOT / "dagster_project" / "orchestration" / "dagster.yaml").read_text()
    )
    assert instance["run_retries"] == {"enabled": False, "max_retries": 0}


def test_nothing_that_spends_is_automated() -> None:
    for asset in STAGE_ASSETS:
        for key, condition in asset.automation_conditions_by_key.items():
            assert condition is None or key.to_user_string() in FREE, key
    repository = build_definitions().get_repository_def()
    assert not repository.schedule_defs
    for sensor in repository.sensor_defs:
        # A sensor may propose; what a person launches has no target here.
        assert not isinstance(sensor, dg.AutomationConditionSensorDefinition)
        assert not sensor.targets, sensor.name


def test_a_class_without_people_is_as_noisy_as_any() -> None:
    """Sums are noised before anything divides them, and divided by what was paid for."""
    from dagster_project.audits.sensitivities import RealisedMeans, pairs_sensitivity

    assert pairs_sensitivity(tries=30) <= 1.0001
    assert pairs_sensitivity(RealisedMeans, tries=30) > 10


def table() -> list[tuple[int, str]]:
    """Number and last column of each row of docs/threats.md."""
    text = (ROOT / "docs" / "threats.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", text, flags=re.MULTILINE)
    return [(int(number), tests) for number, tests in rows]


def test_every_threat_has_a_row() -> None:
    assert sorted(number for number, _ in table()) == list(range(1, 36))


@pytest.mark.parametrize("number", range(1, 36))
def test_every_test_that_a_row_names_exists(number: int) -> None:
    (cell,) = (tests for row, tests in table() if row == number)
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE), test
    audits = re.findall(r"audit \*([\w ]+)\*", cell)
    assert set(audits) <= set(suite.audits(suite.FULL))
    assert named and np.all([name for _, name in named])
