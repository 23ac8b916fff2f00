"""The joint baselines: each end to end against a ledger, and JointMERF's exact sensitivity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.benchmark import bench, private_network, project
from dagster_project.benchmark.joint_diffusion import JointNetwork
from dagster_project.benchmark.joint_mean_embedding import noisy_embedding
from dagster_project.benchmark.method import MethodRequest, many_records
from dagster_project.benchmark.registry import method
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline.release import Compute
from dagster_project.privacy import accounting, events
from dagster_project.settings.recipe import Recipe
from tests.image.feature_toys import Silent, feature_map, one_hot
from tests.toy_project import SETTINGS

# Method -> type of each mechanism's event.
EXPECTED = {
    "jointmerf": {"joint_embedding": "gaussian"},
    "jointdm": {"joint_model": "poisson_sampled_gaussian"},
    "imagetab": {
        "unconditional_model": "poisson_sampled_gaussian",
        "record_model": "poisson_sampled_gaussian",
    },
}
N, STEPS, REPLAYS = 50, SETTINGS["dp_sgd.steps"], SETTINGS["dp_sgd.checkpoint_steps"]


COARSE = {"sampler.model": "two_scale", "coarse.side": 6}
CASES = [*((name, {}) for name in EXPECTED), ("jointdm", COARSE), ("imagetab", COARSE)]


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_method_runs_its_plan_and_makes_pairs(
    name: str, changes: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    schema, system = Schema.from_file(data / "schema.yaml"), method(name)
    version, cache = bench.current_version(data), tmp_path / "cache"
    real = project.real_pairs(data, schema, version, cache=cache)
    with project.population(schema, epsilon=2.0, delta=1e-4) as people:
        asked = MethodRequest(
            schema=schema, population=people, data_version=version, epsilon=2.0, delta=1e-4,
            seed=1, settings=SETTINGS | changes, cache=cache,
        )  # fmt: skip
        plan = system.plan(asked)
        again = MethodRequest(**{**vars(asked), "settings": {}, "recipe": plan.recipe})
        assert system.plan(again).hash == plan.hash
        with project.reserved(
            plan, schema, people, pairs=real, compute=Compute(), cache=cache
        ) as release:
            first, second = (system.synthesise(release, data, N, seed, silent) for seed in (1, 1))
            project.require_all_run(release)
            written = release.ledger.entries()
            known = release.ledger.release(plan.release_id)
            assert many_records(release, N, 0) is None

    # What was charged is the plan, and what ran was told to the ledger before it ran.
    charged = {m["name"]: m["event"] for m in known.plan["mechanisms"]}
    assert {name: event["type"] for name, event in charged.items()} == EXPECTED[name]
    assert charged == {m.name: events.to_json(m.event) for m in plan.mechanisms}
    started = [e.body for e in written if e.kind == "STARTED"]
    declared = {m.stage: {m.name: dict(m.declared)} for m in plan.mechanisms}
    assert {body["stage"]: body["executed"] for body in started} == declared
    assert len(started) == len(declared)  # the second drawing of pairs cost nothing
    assert known.status == "COMMITTED"
    for mechanism in plan.mechanisms:
        if "steps" in mechanism.declared:
            assert known.stages[mechanism.stage].steps == STEPS
            assert charged[mechanism.name]["count"] == STEPS + REPLAYS
    spent = accounting.epsilon(plan.events, target_delta=1e-4, discretization=plan.discretization)
    assert spent == pytest.approx(plan.epsilon) and 1.98 < plan.epsilon <= 2.0

    image = schema.image
    drawn = private_network.drawn_size(schema, Recipe().changed(changes))
    assert (drawn.height < image.height) == bool(changes)
    assert first.images.shape == (N, image.channels, image.height, image.width)
    assert first.images.dtype == np.uint8 and first.images.std() > 0
    assert first.codes.shape == first.values.shape == (N, len(schema.sizes))
    assert (first.codes >= 0).all() and (first.codes < np.array(schema.sizes)).all()
    for part in ("images", "codes", "values"):
        np.testing.assert_array_equal(getattr(first, part), getattr(second, part))


def test_steps_of_a_coarse_joint_network_are_those_that_its_noise_allows(data: Path) -> None:
    """Also where the rule of staged methods, which can do without, gives none."""
    schema = Schema.from_file(data / "schema.yaml")
    with project.population(schema, epsilon=2.0, delta=1e-4) as people:
        asked = MethodRequest(
            schema=schema, population=people, data_version="1", epsilon=2.0, delta=1e-4, seed=1,
            settings={**SETTINGS, **COARSE, "dp_sgd.steps": None, "dp_sgd.most_steps": 30},
            cache=data,
        )  # fmt: skip
        few = method("jointdm").plan(asked)
        large = replace(asked, schema=replace(schema, n_public=60_000))
        many = method("jointdm").plan(large)
    assert few.recipe["dp_sgd"]["steps"] == 30 == many.recipe["dp_sgd"]["steps"]
    assert many.mechanism("joint_model").declared["steps"] == 30


SIZES = (2, 3, 2)
FOURIER = feature_map(pixel_share=0.0)


def embedding(images: np.ndarray, codes: np.ndarray, generator: Silent) -> np.ndarray:
    mechanism = CellSums(noise_multiplier=3.0, sample_rate=1.0, attributes=len(SIZES))
    member = one_hot(codes, SIZES)
    return noisy_embedding(images, member, FOURIER, mechanism=mechanism, generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    others=st.integers(0, 6),
    extreme=st.sampled_from(["black", "white", "binary", "any"]),
    crowd=st.booleans(),
)
def test_one_person_moves_the_joint_embedding_by_exactly_one(
    seed: int, others: int, extreme: str, crowd: bool
) -> None:
    """Adversarial neighbours: everybody else the same person, or anybody; noise off."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (others + 1, 1, 8, 8), dtype=np.uint8)
    fills = {"black": 0, "white": 255, "binary": rng.integers(0, 2, (1, 8, 8)) * 255}
    images[0] = fills.get(extreme, images[0])
    codes = np.stack([rng.integers(size, size=others + 1) for size in SIZES], axis=1)
    if crowd:
        images[:], codes[:] = images[0], codes[0]
    generator = Silent()
    moved = embedding(images, codes, generator) - embedding(images[1:], codes[1:], generator)
    assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)
    # The noise is the multiplier times that sensitivity, in the units of what is released.
    assert np.array(generator.scales) / np.sqrt(len(SIZES)) == pytest.approx(3.0)


def test_the_joint_image_sees_every_attribute_of_its_noisy_record(data: Path) -> None:
    """Records less the uniform one sum to zero in each block: numbers must not cancel there."""
    schema = Schema.from_file(data / "schema.yaml")
    assert {a.kind for a in schema.attributes} == {"categorical", "numeric"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = JointNetwork(schema, Recipe()).unet.table
    start = 0
    for number, size in enumerate(schema.sizes):
        blocks = torch.zeros(2, schema.width)
        blocks[:, start : start + size] = torch.eye(size)[:2] - 1 / size
        tokens = encoder(blocks, torch.ones(2))[:, number]
        assert (tokens[0] - tokens[1]).abs().max() > 0.05, schema.names[number]
        start += size
