"""Plans: validated when made, identified by a hash of one canonical spelling."""

import json
import math
from dataclasses import replace

import pytest

from dagster_project.privacy.events import BoundedRange, Gaussian
from dagster_project.privacy.plan import Plan, PlannedMechanism, canonical_hash, canonical_json


def mechanism(**changes):
    fields = {
        "name": "mean_pairs.sums",
        "stage": "mean_pairs",
        "event": Gaussian(noise_multiplier=4.0),
        "declared": {"clip_norm": 1.0, "cells": [1, 2]},
    }
    return PlannedMechanism(**fields | changes)


def plan(**changes):
    fields = {
        "release_id": "release-1",
        "population": "shop",
        "data_version": "md5",
        "schema_hash": "schema",
        "code_version": "code",
        "target_epsilon": 1,
        "target_delta": 1e-6,
        "n_public": 20_000,
        "discretization": 1e-4,
        "mechanisms": (
            mechanism(),
            mechanism(
                name="table.selection", stage="table", event=BoundedRange(epsilon=0.1, count=12)
            ),
        ),
        "composed_epsilon": 0.99,
        "recipe": {"image_model": {"steps": 60}},
    }
    return Plan(**fields | changes)


def test_json_round_trip_keeps_plan_and_hash():
    original = plan(epsilon_prv=0.7)
    read = Plan.from_json(json.loads(canonical_json(original.to_json())))
    assert read == original
    assert read.hash == original.hash
    assert len(read.hash) == 64


def test_hash_does_not_depend_on_spelling_but_on_every_field():
    original = plan()
    assert plan(target_epsilon=1.0, recipe={"image_model": {"steps": 60}}).hash == original.hash
    changes = [
        {"release_id": "release-2"},
        {"population": "other"},
        {"data_version": "other"},
        {"schema_hash": "other"},
        {"code_version": "other"},
        {"target_epsilon": 1.1},
        {"target_delta": 1e-5},
        {"n_public": 20_001},
        {"discretization": 1e-3},
        {"composed_epsilon": 0.98},
        {"epsilon_prv": 0.5},
        {"recipe": {"image_model": {"steps": 61}}},
        {"mechanisms": (mechanism(),)},
        {"mechanisms": (mechanism(declared={"clip_norm": 2.0}),)},
        {"mechanisms": (mechanism(event=Gaussian(noise_multiplier=4.0, count=2)),)},
        {"mechanisms": (mechanism(cohort="2024"),)},
    ]
    assert len({plan(**change).hash for change in changes} | {original.hash}) == len(changes) + 1


def test_later_changes_by_the_caller_do_not_reach_the_plan():
    declared, recipe = {"cells": [1]}, {"steps": [1]}
    made = plan(mechanisms=[mechanism(declared=declared)], recipe=recipe)
    before = made.hash
    declared["cells"].append(2)
    recipe["steps"].append(2)
    made.to_json()["recipe"]["steps"].append(3)
    assert made.hash == before


def test_lookup_and_events():
    made = plan()
    assert made.events == (Gaussian(noise_multiplier=4.0), BoundedRange(epsilon=0.1, count=12))
    assert made.mechanism("table.selection").stage == "table"
    assert made.epsilon == made.composed_epsilon == 0.99
    with pytest.raises(KeyError):
        made.mechanism("absent")


@pytest.mark.parametrize(
    "changes",
    [
        {"release_id": ""},
        {"release_id": "../escape"},
        {"release_id": "a/b"},
        {"population": " "},
        {"data_version": ""},
        {"schema_hash": None},
        {"target_epsilon": 0},
        {"target_epsilon": math.inf},
        {"target_epsilon": True},
        {"target_epsilon": "1"},
        {"target_delta": 1.0},
        {"target_delta": math.nan},
        {"n_public": 0},
        {"n_public": 100.0},
        {"n_public": True},
        {"discretization": -1e-4},
        {"composed_epsilon": 1.01},
        {"composed_epsilon": 0.0},
        {"epsilon_prv": math.nan},
        {"mechanisms": ()},
        {"mechanisms": ("mean_pairs",)},
        {"mechanisms": (mechanism(), mechanism())},
        {"recipe": {"rate": math.nan}},
        {"recipe": {"call": print}},
        {"recipe": {1: "one"}},
        {"recipe": ["steps"]},
    ],
)
def test_refuses_malformed_plans(changes):
    with pytest.raises(ValueError):
        plan(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a b"},
        {"stage": None},
        {"cohort": ""},
        {"event": {"type": "gaussian"}},
        {"event": None},
        {"declared": {"sigma": math.inf}},
        {"declared": None},
    ],
)
def test_refuses_malformed_mechanisms(changes):
    with pytest.raises(ValueError):
        mechanism(**changes)


def test_reading_is_strict():
    written = plan().to_json()
    without = {key: value for key, value in written.items() if key != "n_public"}
    step = written["mechanisms"][0]
    for broken in [
        without,
        written | {"seed": 0},
        written | {"mechanisms": {}},
        written | {"mechanisms": [step | {"seed": 0}]},
        written | {"mechanisms": [step | {"event": {"type": "free"}}]},
        written | {"mechanisms": [step | {"event": "gaussian"}]},
        [],
    ]:
        with pytest.raises(ValueError):
            Plan.from_json(broken)


def test_a_plan_cannot_be_altered():
    with pytest.raises(AttributeError):
        plan().target_epsilon = 2.0
    with pytest.raises(ValueError, match="above the target"):
        replace(plan(), target_epsilon=0.5)


def test_canonical_json_has_one_spelling():
    assert canonical_json({"b": [1.0, None], "a": True}) == '{"a":true,"b":[1.0,null]}'
    assert canonical_hash({"a": 1, "b": 2}) == canonical_hash({"b": 2, "a": 1})
    with pytest.raises(ValueError):
        canonical_json(math.nan)
