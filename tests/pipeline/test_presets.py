"""Every preset is one configuration of the same stages, planned, charged and run to a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dagster_project.cli import main as cli
from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.image import edm
from dagster_project.image.generator import ImageGenerator
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline import (
    image_model,
    mean_pairs,
    pretrained_checkpoint,
    synthetic_release,
)
from dagster_project.pipeline.fidelity_report import read_bundle
from dagster_project.pipeline.order import between
from dagster_project.pipeline.release import Release
from dagster_project.planning.mechanisms import mechanisms
from dagster_project.planning.planner import build_plan
from dagster_project.privacy.events import PoissonSampledGaussian
from dagster_project.privacy.plan import Plan
from dagster_project.release import manifest
from dagster_project.settings.presets import PRESETS, preset
from dagster_project.settings.recipe import Recipe
from tests.planning.test_planner import schema
from tests.toy_project import SETTINGS, materialise, settings_arguments, write_project

NAMES = ("published", "base", "indep", "randimg", "attrimg")
# Cells of a hundred people are more than the toys have.
SMALL = SETTINGS | {"mean_pairs.minimum_count": 2.0, "mean_pairs.sample_rate": 0.5}


def at(name: str, mu: float = 0.3, **changes):
    recipe = preset(name).changed({"table.rounds": 2, "dp_sgd.steps": 8, **changes})
    return {m.name: m for m in mechanisms(schema(), recipe, mu)}


def test_the_default_is_the_recipe_as_it_is():
    assert preset("default") == Recipe()
    with pytest.raises(ValueError, match=r"no preset 'other': one of default, published"):
        preset("other")


@pytest.mark.parametrize("name", ["published", "randimg", "attrimg"])
def test_counts_and_sums_of_a_sample_are_one_event(name):
    found = at(name)["mean_pairs"]
    assert isinstance(found.event, PoissonSampledGaussian)
    assert (found.event.sample_rate, found.event.count) == (0.05, 1)
    assert found.declared == {
        "noise_multiplier": found.event.noise_multiplier,
        "sample_rate": 0.05,
        "attributes": 3,
        "counted": True,
    }
    # Nothing is kept back from DP-SGD or handed to it: the shares are as they stand.
    assert at(name, 3.0)["mean_pairs"].event.noise_multiplier < 1.5


@pytest.mark.parametrize("name", ["base", "indep"])
def test_what_has_no_share_is_not_in_the_plan(name):
    found = at(name)
    table = {"table_model.selection", "table_model.measurement"}
    assert set(found) == {"minimum_people", "image_model"} | table
    default = at("default", **{"budget_split.table": 0.2, "budget_split.pairs": 0.5})
    noise, more = (m["image_model"].event.noise_multiplier for m in (found, default))
    assert noise < more


def test_mechanisms_of_another_system_meet_the_same_target():
    def lone(a_schema, recipe, mu):
        return mechanisms(a_schema, recipe, mu)[-1:]

    def plan(found):
        return build_plan(
            schema(), preset("base").changed({"table.rounds": None, "dp_sgd.steps": 4}),
            name="toy", target_epsilon=1.0, target_delta=1e-5, population="toys",
            data_version="1", code_version="1", identity_key=b"k" * 32, mechanisms=found,
        )  # fmt: skip

    alone, whole = plan(lone), plan(mechanisms)
    assert [m.name for m in alone.mechanisms] == ["image_model"]
    assert 0.99 < alone.epsilon <= 1.0 and alone.release_id != whole.release_id
    assert alone.events[0].noise_multiplier < whole.events[-1].noise_multiplier
    # Rounds are filled in only where there is a table model.
    assert alone.recipe["table"]["rounds"] is None and whole.recipe["table"]["rounds"] >= 1


def run(root: Path, name: str, **changes) -> Release:
    """All stages of a preset on the toys, without Dagster."""
    write_project(root)
    population = Population.load(root / "population.yaml")
    ledger = Ledger.open(population)
    a_schema = Schema.from_file(root / "data" / "schema.yaml")
    plan = build_plan(
        a_schema, preset(name).changed({**SMALL, **changes}),
        name=name, target_epsilon=5.0, target_delta=1e-4, population="toys",
        data_version="listing:1", code_version="c0de", identity_key=population.member_key(),
    )  # fmt: skip
    ledger.reserve(plan, approved_by="a tester", schema_public=False)
    release = Release(plan=plan, schema=a_schema, ledger=ledger, root=root)
    release.write_schema()
    for stage in between("public_images", "synthetic_release"):
        stage.run(
            release, silent, data_dir=root / "data", heldout_key=population.member_key(),
            folder=release.bundle, n=60, seed=1,
        )  # fmt: skip
    return release


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    return {name: run(tmp_path_factory.mktemp(name), name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_runs_to_a_bundle_whose_events_are_the_ledgers(made, name):
    release = made[name]
    stated = manifest.read(release.bundle)
    known = release.ledger.release(release.id)
    assert known.status == "COMMITTED"
    assert manifest.recorded_events(stated) == list(Plan.from_json(known.plan).events)
    assert stated["privacy"]["epsilon"] <= 5.0
    # What ran is what was planned, mechanism by mechanism, and nothing else was ever charged.
    started = {
        mechanism: parameters
        for entry in release.ledger.entries()
        if entry.kind == "STARTED"
        for mechanism, parameters in entry.body["executed"].items()
    }
    assert started == {m.name: dict(m.declared) for m in release.plan.mechanisms}
    assert len(read_bundle(release.bundle, release.schema, most=100)) == 60
    assert not list(release.private.glob("subsample*"))


@pytest.mark.parametrize("name", ["base", "indep"])
def test_without_mean_pairs_training_starts_from_the_untrained_network(made, name):
    release = made[name]
    images, records = mean_pairs.mean_images(release)
    assert len(images) == len(records) == 0
    fresh = release.new_network().state_dict()
    loaded = pretrained_checkpoint.load(release).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in fresh.items())
    assert mean_pairs.measure(release, silent) is False  # committed like any other


def test_the_unrelated_images_do_not_see_their_record(made):
    """Other records and the same public noise: only a guidance of 0 leaves the images alone."""
    release = made["indep"]
    records = torch.from_numpy(release.schema.one_hot(np.array([[0, 0, 0], [1, 1, 1]])))
    settings = release.recipe.sampler
    assert settings.guidance == 0 and release.recipe.dp_sgd.condition_dropout == 1

    def drawn(record, **changes):
        return edm.sample(
            image_model.load(release), record.expand(4, -1), (1, 12, 12),
            levels=edm.LEVELS,
            settings=settings.model_copy(update=changes),
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    assert torch.equal(drawn(records[0]), drawn(records[1]))
    # The network itself would show it: the privacy noise has moved every weight.
    assert not torch.equal(drawn(records[0], guidance=1.0), drawn(records[1], guidance=1.0))


@pytest.mark.parametrize("name", ["published", "randimg", "attrimg"])
def test_mean_images_of_half_the_size_warm_it_up(made, name):
    release = made[name]
    public_map = mean_pairs.load(release).feature_map
    # The toys' settings say 6 pixels, which is half of 12 as well.
    assert (public_map.height, public_map.width, public_map.size) == (6, 6, 36)
    images, records = mean_pairs.mean_images(release)
    assert len(images) and images.min() >= 0 and images.max() <= 1
    assert np.allclose(records, records[0]) == (name != "published")
    fresh = release.new_network().state_dict()
    loaded = pretrained_checkpoint.load(release).state_dict()
    assert any(not torch.equal(loaded[key], value) for key, value in fresh.items())
    assert not (release.models / pretrained_checkpoint.GENERATOR).exists()


def test_half_the_size_follows_the_images(made):
    release, image = made["published"], made["published"].schema.image
    plan = replace(release.plan, recipe=preset("published").model_dump(mode="json"))
    tall = replace(release.schema, image=replace(image, channels=3, height=48, width=33))
    public_map = mean_pairs.feature_map(replace(release, plan=plan, schema=tall))
    assert (public_map.channels, public_map.height, public_map.width) == (3, 24, 17)
    assert public_map.pixel_clip == pytest.approx((3 * 24 * 17) ** 0.5)


def test_where_every_cell_is_too_small_there_is_no_pretraining(tmp_path):
    """The published rule on the toys: no cell has a hundred people."""
    release = run(tmp_path, "published", **{"mean_pairs.minimum_count": 1e9})
    assert len(mean_pairs.mean_images(release)[0]) == 0
    assert release.ledger.release(release.id).status == "COMMITTED"


def test_the_graph_is_the_same_for_every_preset(tmp_path):
    """Every asset is made, those that have nothing to do as well."""
    result = materialise(write_project(tmp_path), preset="base")
    assert result.success
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert {"subsample", "mean_pairs", "pretrained_checkpoint", "fidelity_report"} <= made


def test_so_few_people_have_no_step_of_dp_sgd(tmp_path, monkeypatch):
    monkeypatch.delitem(SETTINGS, "dp_sgd.steps")
    result = materialise(write_project(tmp_path))
    assert result.success
    (models,) = (p for p in (tmp_path / "models").iterdir() if p.is_dir())
    released = (models / "image_model.safetensors").read_bytes()
    assert released == (models / pretrained_checkpoint.CHECKPOINT).read_bytes()
    stated = manifest.read(tmp_path / "releases" / models.name)
    assert stated["sampling"]["model"] == "two_scale"
    text = (tmp_path / "releases" / models.name / "README.md").read_text()
    assert "a diffusion model of coarse images" in text and "DP-SGD" not in text
    spent = {event.__class__.__name__ for event in manifest.recorded_events(stated)}
    assert spent == {"BoundedRange", "DiscreteGaussian", "Gaussian"}  # table and mean pairs


def test_an_unknown_preset_is_refused_before_anything_is_spent(tmp_path, capsys):
    root = write_project(tmp_path)
    assert not materialise(root, preset="other", assets=("dataset", "privacy_plan")).success
    with pytest.raises(SystemExit):
        cli.main(["plan", "--root", str(root), "--preset", "other"])
    assert "invalid choice: 'other'" in capsys.readouterr().err


def test_the_command_plans_a_preset(tmp_path, capsys):
    root = write_project(tmp_path)
    asked = ["--root", str(root), "--data", str(root / "data"), "--preset", "published"]
    code = cli.main(
        ["plan", *asked, "--epsilon", "1", "--delta", "1e-4", "--json", *settings_arguments()]
    )
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert code == 0 and plan["composed_epsilon"] <= 1
    assert plan["recipe"]["mean_pairs"]["sample_rate"] == 0.05
    assert [m["declared"]["counted"] for m in plan["mechanisms"] if m["name"] == "mean_pairs"]


def test_all_presets_are_here():
    assert set(NAMES) < set(PRESETS)


@pytest.mark.parametrize("model", ["generator", "diffusion"])
def test_without_dp_sgd_either_model_draws_the_same_bundle_twice(tmp_path, model):
    release = run(tmp_path, "default", **{"budget_split.image": 0.0, "sampler.model": model})
    drawn = read_bundle(release.bundle, release.schema, most=100)
    again = tmp_path / "again"
    synthetic_release.make(release, again, n=60, seed=1, progress=silent)
    np.testing.assert_array_equal(read_bundle(again, release.schema, most=100).images, drawn.images)
    other = tmp_path / "other"
    synthetic_release.make(release, other, n=60, seed=2, progress=silent)
    assert (read_bundle(other, release.schema, most=100).images != drawn.images).any()
    assert isinstance(image_model.load(release), ImageGenerator) == (model == "generator")
