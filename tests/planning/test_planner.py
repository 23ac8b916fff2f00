"""Plans: every sigma solved from the joint composition, nothing added up or typed in."""

from __future__ import annotations

from functools import reduce

import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from dagster_project.data.schema import Schema
from dagster_project.planning import planner
from dagster_project.planning.mechanisms import effective_split, mechanisms
from dagster_project.planning.planner import build_plan
from dagster_project.privacy import accounting
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.plan import Plan
from dagster_project.settings.presets import preset
from dagster_project.settings.recipe import Recipe
from dagster_project.table.measurements import table_counts

DELTA = 1e-5
SHORT = {"table.rounds": 2, "dp_sgd.steps": 8, "dp_sgd.batch": 64, "dp_sgd.checkpoint_steps": 3}


def schema(n_public: int = 2000, **changes) -> Schema:
    content = {
        "name": "toys",
        "person_id": "id",
        "n_public": n_public,
        "image": {"column": "image", "channels": 1, "height": 8, "width": 8},
        "attributes": {
            "kind": {"kind": "categorical", "categories": ["ball", "doll"]},
            "size": {"kind": "categorical", "categories": ["s", "m", "l"]},
            "weight": {"kind": "numeric", "edges": [0, 1, 10], "missing": True},
        },
    }
    return Schema.from_dict({**content, **changes})


def plan(a_schema: Schema | None = None, settings: dict | None = None, **changes) -> Plan:
    request = {
        "name": "release",
        "target_epsilon": 1.0,
        "target_delta": DELTA,
        "population": "toys",
        "data_version": "md5:1",
        "code_version": "c0de",
        "identity_key": b"k" * 32,
        **changes,
    }
    recipe = Recipe().changed(SHORT | (settings or {}))
    return build_plan(a_schema or schema(), recipe, **request)


@pytest.fixture(scope="module")
def plans(real_grid):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "DISCRETIZATION", real_grid)
        return {epsilon: plan(target_epsilon=epsilon) for epsilon in (0.5, 3.0)}


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_the_joint_epsilon_meets_the_target(plans, epsilon):
    found = plans[epsilon]
    assert 0.99 * epsilon < found.composed_epsilon <= epsilon
    again = accounting.epsilon(
        found.events, target_delta=DELTA, discretization=found.discretization
    )
    assert again == pytest.approx(found.composed_epsilon, abs=1e-9)
    assert found.discretization == 1e-4


def composed_by_dp_accounting(events, *, interval: float, delta: float) -> float:
    """The events' own meaning, composed by dp-accounting alone."""
    parts = []
    for event in events:
        if isinstance(event, Gaussian):
            part = pld.from_gaussian_mechanism(
                event.noise_multiplier, value_discretization_interval=interval
            ).self_compose(event.count)
        elif isinstance(event, PoissonSampledGaussian):
            part = pld.from_gaussian_mechanism(
                event.noise_multiplier,
                value_discretization_interval=interval,
                sampling_prob=event.sample_rate,
            ).self_compose(event.count)
        elif isinstance(event, DiscreteGaussian):
            part = pld.from_discrete_gaussian_mechanism(
                event.sigma, value_discretization_interval=interval
            ).self_compose(event.count)
        else:
            part = pld.from_privacy_parameters(
                pld.common.DifferentialPrivacyParameters(event.epsilon, 0),
                value_discretization_interval=interval,
            ).self_compose(event.count)
        parts.append(part)
    return reduce(lambda a, b: a.compose(b), parts).get_epsilon_for_delta(delta)


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_the_gaussian_events_equal_dp_accounting(plans, epsilon):
    events = [e for e in plans[epsilon].events if isinstance(e, Gaussian | PoissonSampledGaussian)]
    assert len(events) == 2
    ours = accounting.epsilon(events, target_delta=DELTA, discretization=1e-4)
    theirs = composed_by_dp_accounting(events, interval=1e-4, delta=DELTA)
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_all_events_lie_between_dp_accountings_bounds(plans):
    """Selections cost something, and less than if they were known to be pure DP alone."""
    found = plans[3.0]
    events = [event for event in found.events if not isinstance(event, BoundedRange)]
    below, above = (
        composed_by_dp_accounting(those, interval=1e-4, delta=DELTA)
        for those in (events, found.events)
    )
    assert below < found.composed_epsilon < above


def test_epsilons_of_the_parts_are_not_added(plans):
    found = plans[3.0]
    alone = [accounting.epsilon([e], target_delta=DELTA, discretization=1e-4) for e in found.events]
    assert found.composed_epsilon < 0.8 * sum(alone)
    assert all(0 < e < found.composed_epsilon for e in alone)


def test_less_epsilon_means_more_noise_everywhere(plans):
    low, high = plans[0.5], plans[3.0]
    for name in ("mean_pairs", "image_model"):
        assert (
            low.mechanism(name).event.noise_multiplier > high.mechanism(name).event.noise_multiplier
        )
    assert (
        low.mechanism("table_model.measurement").event.sigma
        > high.mechanism("table_model.measurement").event.sigma
    )
    assert (
        low.mechanism("table_model.selection").event.epsilon
        < high.mechanism("table_model.selection").event.epsilon
    )


def test_every_use_of_the_data_is_an_event(plans):
    found = plans[3.0]
    assert [(m.name, type(m.event)) for m in found.mechanisms] == [
        ("minimum_people", DiscreteGaussian),
        ("table_model.selection", BoundedRange),
        ("table_model.measurement", DiscreteGaussian),
        ("mean_pairs", Gaussian),
        ("image_model", PoissonSampledGaussian),
    ]
    counts = table_counts(schema(), Recipe().changed(SHORT))
    assert found.mechanism("table_model.selection").event.count == counts.selections == 2
    assert found.mechanism("table_model.measurement").event.count == counts.measurements >= 3 + 2


def events_of(mu=1.0, n_public=2000, **settings):
    recipe = Recipe().changed(SHORT | settings)
    return {m.name: m for m in mechanisms(schema(n_public), recipe, mu)}


@pytest.mark.parametrize(("replays", "extra"), [(0, 0), (1, 3), (2, 6)])
def test_replays_after_a_crash_are_paid_for(replays, extra):
    image = events_of(**{"dp_sgd.replays": replays})["image_model"]
    assert image.event.count == 8 + extra
    assert (image.declared["steps"], image.declared["replay_steps"]) == (8, extra)
    more = events_of(**{"dp_sgd.replays": 2})["image_model"].event.noise_multiplier
    assert replays == 2 or image.event.noise_multiplier < more


def test_a_range_longer_than_the_run_replays_the_run():
    image = events_of(**{"dp_sgd.checkpoint_steps": 50})["image_model"]
    assert image.event.count == 16


@pytest.mark.parametrize("n_public", [100, 2000, 50_000])
def test_the_public_number_of_people_drives_the_sampling_rate(n_public):
    image = events_of(n_public=n_public, **{"dp_sgd.batch": 200})["image_model"]
    rate = min(1.0, 200 / n_public)
    assert image.event.sample_rate == image.declared["sample_rate"] == rate
    assert image.declared["expected_batch_size"] == pytest.approx(min(200, n_public))


def test_a_sampled_mean_release_is_charged_as_one():
    whole, part = (
        events_of()["mean_pairs"],
        events_of(**{"mean_pairs.sample_rate": 0.05})["mean_pairs"],
    )
    assert isinstance(part.event, PoissonSampledGaussian) and part.event.sample_rate == 0.05
    assert part.event.noise_multiplier < whole.event.noise_multiplier
    assert part.declared["sample_rate"] == 0.05


def test_a_share_moves_noise_from_one_mechanism_to_another():
    plain, less = events_of(), events_of(**{"budget_split.pairs": 0.02})
    assert less["mean_pairs"].event.noise_multiplier > plain["mean_pairs"].event.noise_multiplier
    assert less["image_model"].event.noise_multiplier < plain["image_model"].event.noise_multiplier


def test_mean_pairs_take_no_more_than_they_can_use():
    recipe = Recipe().changed({"dp_sgd.steps": 10})
    small, large = ({m.name: m for m in mechanisms(schema(), recipe, mu)} for mu in (0.3, 3.0))
    assert small["mean_pairs"].event.noise_multiplier > 1.5
    assert large["mean_pairs"].event.noise_multiplier == pytest.approx(1.5)
    # What is left goes to DP-SGD: the shares still fill the whole budget.
    spent = 1 / 1.5**2 / 9
    shares = recipe.budget_split.model_dump()
    others = (shares["table"] + shares["minimum_people"]) / sum(shares.values())
    assert effective_split(recipe, 3.0)["image"] == pytest.approx(1 - spent - others)


@pytest.mark.parametrize(
    ("epsilon", "people", "steps"),
    [
        (1, 20_000, 0),
        (10, 60_000, 0),
        (1, 10**6, 0),
        (10, 600_000, 30),
        (10, 10**6, 60),
        (20, 10**6, 120),
    ],
)
def test_steps_follow_the_public_rule(epsilon, people, steps):
    assert planner.dp_sgd_steps(Recipe(), epsilon, people) == steps
    taught_less = Recipe().changed({"pretraining.source": "mean_pairs"})
    assert planner.dp_sgd_steps(taught_less, epsilon, people) == 120


def test_a_plan_without_steps_gives_their_budget_to_the_others():
    found = plan(settings={"dp_sgd.steps": None}, n_public=2_000)
    assert {m.stage for m in found.mechanisms} == {"minimum_people", "table_model", "mean_pairs"}
    assert found.composed_epsilon > 0.99


@pytest.mark.parametrize(
    ("epsilon", "people", "steps"),
    [
        (8, 350, 0),
        (1, 6_000, 0),
        (1, 8_000, 0),
        (2, 5_000, 34),
        (1, 10_000, 35),
        (1, 20_000, 141),
        (3, 20_000, 300),
    ],
)
def test_coarse_steps_follow_the_public_rule(epsilon, people, steps):
    assert planner.coarse_steps(Recipe(), epsilon, people) == steps
    filled = planner.with_steps(Recipe(), epsilon, people)
    assert filled.dp_sgd.steps == (steps or None)
    assert bool(filled.budget_split.image) == bool(steps)


def test_a_limit_caps_or_raises_both_rules():
    plenty, scarce = (Recipe().changed({"dp_sgd.most_steps": most}) for most in (4000, 25))
    assert planner.coarse_steps(plenty, 3.0, 1_000_000) == 4000
    assert planner.coarse_steps(plenty, 1.0, 12_000) == planner.coarse_steps(Recipe(), 1.0, 12_000)
    assert planner.coarse_steps(scarce, 3.0, 1_000_000) == 25
    assert planner.coarse_steps(scarce, 1.0, 8_000) == 0
    assert planner.dp_sgd_steps(scarce, 3.0, 10_000_000) == 25


def test_dp_sgd_costs_its_share_in_the_joint_composition():
    """Thousands of steps among a million people cost next to nothing down to a noise multiplier of
    about .8, where a rule for each mechanism by itself would stop."""
    found = plan(
        schema(1_000_000),
        {"dp_sgd.steps": 2000, "dp_sgd.batch": 512, "budget_split.minimum_people": 0},
        target_epsilon=3.0,
        target_delta=1e-8,
        discretization=1e-3,
        second_opinion=False,
    )
    pairs, sgd = (found.mechanism(name).event for name in ("mean_pairs", "image_model"))
    assert pairs.noise_multiplier == pytest.approx(3.3, abs=0.1)
    assert sgd.noise_multiplier == pytest.approx(0.62, abs=0.02)
    others = [event for event in found.events if event is not sgd]
    # The pairs' share is as large as that of DP-SGD, and no minimum of noise applies to it.
    stand_in = [*others, Gaussian(noise_multiplier=pairs.noise_multiplier)]
    for events in (found.events, stand_in):
        cost = accounting.epsilon(events, target_delta=1e-8, discretization=1e-3)
        assert cost == pytest.approx(3.0, rel=0.01)
    assert accounting.epsilon(others, target_delta=1e-8, discretization=1e-3) < 2.6


def test_coarse_steps_grow_with_their_share_and_with_people():
    less = Recipe().changed({"budget_split.image": 0.15})
    assert planner.coarse_steps(less, 1.0, 20_000) < planner.coarse_steps(Recipe(), 1.0, 20_000)
    found = [planner.coarse_steps(Recipe(), 1.0, n) for n in range(5_000, 40_000, 1_000)]
    assert found == sorted(found) and found[-1] == 300


@pytest.mark.parametrize(("people", "steps"), [(4_000_000, 950), (6_000_000, 800), (10**7, 600)])
def test_pretraining_takes_the_time_that_is_left(people, steps):
    full_size = {"sampler.model": "diffusion"}
    recipe = Recipe().changed(full_size)
    assert planner.with_steps(recipe, 1.0, people).pretraining.steps == steps
    own = Recipe().changed({**full_size, "pretraining.steps": 7})
    assert planner.with_steps(own, 1.0, people).pretraining.steps == 7


def test_a_gpu_takes_the_steps_that_the_noise_allows():
    def steps(name, epsilon):
        return planner.with_steps(preset(name), epsilon, 20_000).dp_sgd.steps

    assert steps("gpu", 10.0) == 2000 > steps("default", 10.0) == 300
    assert steps("gpu", 1.0) == steps("default", 1.0) < 300


def test_two_scales_draw_unless_something_else_taught_the_diffusion():
    def model(name="default", **changes):
        return planner.with_steps(preset(name).changed(changes), 1.0, 20_000).sampler.model

    assert model() == model("gpu") == model("nosgd") == "two_scale"
    assert model("published") == model("base") == model("privimage+pairs") == "diffusion"
    assert model(**{"sampler.model": "diffusion"}) == "diffusion"
    direct = {"sampler.model": "generator", "budget_split.image": 0.0}
    assert model(**direct) == "generator"
    assert planner.with_steps(Recipe().changed(direct), 1.0, 20_000).pretraining.steps is None
    with pytest.raises(ValueError, match=r"budget_split\.image=0"):
        model(**{"sampler.model": "generator"})


def test_without_a_share_dp_sgd_takes_no_time():
    recipe = Recipe().changed({"budget_split.image": 0.0, "sampler.model": "diffusion"})
    filled = planner.with_steps(recipe, 10.0, 20_000)
    assert filled.pretraining.steps == planner.pretraining_steps(0)
    assert filled.dp_sgd == recipe.dp_sgd


def test_declared_noise_is_the_charged_noise(plans):
    for mechanism in plans[3.0].mechanisms:
        for name in ("noise_multiplier", "sample_rate", "sigma", "epsilon"):
            if name in mechanism.declared and hasattr(mechanism.event, name):
                assert mechanism.declared[name] == getattr(mechanism.event, name)


def test_mst_is_another_plan():
    counts = table_counts(schema(), Recipe().changed({"table.method": "mst"}))
    assert counts.selections == 2  # a tree over three attributes
    assert events_of(**{"table.method": "mst"})["table_model.selection"].declared["method"] == "mst"


def test_rounds_are_filled_in_by_the_public_rule():
    found = plan(settings={"table.rounds": None})
    rounds = found.recipe["table"]["rounds"]
    assert 1 <= rounds <= 3
    assert found.mechanism("table_model.selection").event.count == rounds


@pytest.mark.parametrize("changes", [
    {"name": "other"}, {"target_epsilon": 1.5}, {"target_delta": 2e-5}, {"population": "others"},
    {"data_version": "md5:2"}, {"code_version": "beef"}, {"identity_key": b"j" * 32},
    {"settings": {"image_generator.steps": 3}}, {"settings": {"public_seed": 1}},
    {"a_schema": schema(2001)}, {"a_schema": schema(name="dolls")},
])  # fmt: skip
def test_release_id_depends_on_everything_that_decides_it(changes, monkeypatch):
    # The noise plays no part here: solving it once on a coarse grid is enough.
    solved = mechanisms(schema(), Recipe().changed(SHORT), 0.1)
    monkeypatch.setattr(planner, "_solve", lambda *_: solved)
    monkeypatch.setattr(planner, "DISCRETIZATION", 1e-2)
    monkeypatch.setattr(accounting, "epsilon_prv", lambda *_, **__: None)
    assert plan().release_id == plan().release_id
    assert plan().release_id.startswith("release-")
    assert plan(**changes).release_id != plan().release_id


def test_release_id_does_not_show_the_data_version():
    identity = {"data_version": "md5:1"}
    assert planner._keyed_hash(b"a", identity) != planner._keyed_hash(b"b", identity)


def test_the_plan_survives_json(plans):
    for found in plans.values():
        assert Plan.from_json(found.to_json()) == found
        assert Plan.from_json(found.to_json()).hash == found.hash


@pytest.mark.parametrize(
    "changes",
    [{"target_epsilon": 0.0}, {"target_epsilon": -1.0}, {"target_epsilon": float("nan")},
     {"target_delta": 0.0}, {"target_delta": 1.0}],
)  # fmt: skip
def test_targets_out_of_range_are_refused(changes):
    with pytest.raises(ValueError) as refused:
        plan(**changes)
    assert "\n" not in str(refused.value)
