"""Public settings: changed by name, checked again, and never silently misread."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagster_project.settings.recipe import Recipe


def names():
    content = Recipe().model_dump()
    for section, body in content.items():
        if isinstance(body, dict):
            yield from (f"{section}.{field}" for field in body)
        else:
            yield section


def test_a_change_reaches_its_setting_and_no_other():
    changed = Recipe().changed({"dp_sgd.steps": 10, "public_seed": 7})
    assert (changed.dp_sgd.steps, changed.public_seed) == (10, 7)
    back = changed.changed({"dp_sgd.steps": Recipe().dp_sgd.steps, "public_seed": 0})
    assert back == Recipe()


@pytest.mark.parametrize(
    "name",
    ["stepz", "dp_sgd.stepz", "dp-sgd.steps", "nothing.public_seed", "nothing.dp_sgd",
     "public_seed.steps", "dp_sgd.steps.more", "", ".", "dp_sgd.", ".steps"],
)  # fmt: skip
def test_unknown_settings_are_refused(name):
    with pytest.raises(ValueError, match="unknown setting"):
        Recipe().changed({name: 3})


@given(st.text(max_size=30))
def test_no_other_name_is_taken(name):
    if name not in {*names(), *Recipe().model_dump()}:
        with pytest.raises(ValueError, match="unknown setting"):
            Recipe().changed({name: 3})


@pytest.mark.parametrize(
    "changes",
    [{"dp_sgd.steps": 0}, {"dp_sgd.steps": 1.5}, {"dp_sgd.max_grad_norm": -1},
     {"table.method": "magic"}, {"mean_pairs.sample_rate": 1.1}, {"budget_split.table": 0},
     {"dp_sgd.learning_rate": float("nan")}, {"budget_split.image": float("inf")},
     {"dp_sgd": {"stepz": 1}}, {"dp_sgd": 3}, {"network.channels": "wide"}],
)  # fmt: skip
def test_values_out_of_range_are_refused_in_one_sentence(changes):
    with pytest.raises(ValueError) as refused:
        Recipe().changed(changes)
    assert "\n" not in str(refused.value)
    assert next(iter(changes)).split(".")[0] in str(refused.value)


@pytest.mark.parametrize("name", list(names()))
def test_every_setting_is_bound_to_the_plan(name):
    """What a plan records is what the recipe reads back, setting by setting."""
    section, _, field = name.rpartition(".")
    stored = json.loads(json.dumps(Recipe().model_dump(mode="json")))
    assert Recipe.restored(stored) == Recipe()
    del (stored[section] if section else stored)[field]
    assert Recipe.model_validate(stored) == Recipe()  # every setting has a default
    # which need not be what a version did that did not have the setting
    with pytest.raises(ValueError, match=f"without the setting '{re.escape(name)}'"):
        Recipe.restored(stored)


def test_pretraining_without_its_source_is_refused():
    with pytest.raises(
        ValueError, match=r"^without budget_split\.pairs only pretraining\.source=none"
    ):
        Recipe().changed({"budget_split.pairs": 0})
    assert (
        Recipe().changed({"budget_split.pairs": 0, "pretraining.source": "none"}).budget_split.pairs
        == 0
    )


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValueError):
        Recipe().dp_sgd.steps = 3  # type: ignore[misc]
