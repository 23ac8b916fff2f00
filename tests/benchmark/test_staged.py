"""A preset through its real stages, by the command in two processes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_project.benchmark import bench, staged
from dagster_project.benchmark.configuration import Configuration, Entry, entries
from dagster_project.benchmark.registry import known, method
from dagster_project.benchmark.rehearsal import stage_costs
from dagster_project.benchmark.trial import Places, resolve
from dagster_project.cli import main as cli
from dagster_project.pipeline.release import Compute
from dagster_project.planning import planner
from dagster_project.settings.presets import preset
from dagster_project.settings.recipe import Recipe
from tests.benchmark.conftest import configured
from tests.toy_project import SETTINGS, settings_arguments


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants of a preset that differ in the sampler alone, compared in two processes."""
    out = tmp_path_factory.mktemp("staged") / "out"
    code = cli.main(
        ["compare", "--data", str(data), "--methods", "default,quick=default", "--epsilons", "5",
         "--seeds", "1", "--delta", "1e-4", "--n", "60", "--extractor", "pixels", "--workers", "2",
         "--set", "quick:sampler.steps=2", "--out", str(out), *settings_arguments()]
    )  # fmt: skip
    assert code == 0
    return out


def results(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "results.json").read_text())["results"]


def test_every_stage_is_run_and_timed(finished: Path) -> None:
    rows = results(finished)
    assert [row["method"] for row in rows] == ["default", "quick"]
    stages = {"minimum_people", "table_model", "mean_pairs", "pretrained_checkpoint"}
    stages |= {"image_model", "detail_model", "sampling"}
    for row in rows:
        assert set(row["cpu_seconds_by_stage"]) == stages
        assert row["cpu_seconds"] == pytest.approx(sum(row["cpu_seconds_by_stage"].values()))
        assert row["peak_memory"] > 1e8
        assert 4.5 < row["epsilon_spent"] <= 5


def test_equal_table_models_are_shared_and_their_cost_is_told(finished: Path) -> None:
    assert len([p for p in (finished / "cache").glob("table-*") if p.is_dir()]) == 1
    first, second = results(finished)
    assert first["tvd_3way"] == second["tvd_3way"]
    taken = [row["cpu_seconds_by_stage"]["table_model"] for row in (first, second)]
    assert taken[0] == taken[1] > 0.1


def test_other_noise_or_seed_is_another_table_model(finished: Path, data: Path) -> None:
    out = finished.with_name("other")
    arguments = ["--data", str(data), "--delta", "1e-4", "--n", "60", "--extractor", "pixels"]
    arguments += ["--out", str(out), "--cache", str(finished / "cache"), *settings_arguments()]
    before = set((finished / "cache").glob("table-*[!k]"))
    assert cli.main(["compare", "--epsilons", "6", "--seeds", "1", *arguments]) == 0
    at_six = set((finished / "cache").glob("table-*[!k]"))
    assert len(at_six - before) == 1
    more = ["--epsilons", "6", "--first-seed", "1", "--seeds", "1"]
    assert cli.main(["compare", *more, *arguments]) == 0
    assert len(set((finished / "cache").glob("table-*[!k]")) - at_six) == 1


def test_a_rerun_from_the_json_has_the_same_recipes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = finished / "results.json", []
    earlier = json.loads(file.read_text())["configuration"]

    def instead(configuration: Configuration, one: Any, places: Places, progress: Any) -> Any:
        seen.append(one)
        return "not run"

    monkeypatch.setattr(bench, "_attempt", instead)
    again = ["compare", "--config", str(file), "--out", str(tmp_path / "again")]
    assert cli.main(again) == 4  # nothing was made
    recipes = [{**earlier["resolved"][f"{c.label} at 5"], "public_seed": 0} for c in seen]
    assert [dict(c.recipe) for c in seen] == recipes
    assert [c.key for c in seen] == [row["trial"] for row in results(finished)]


def test_a_rerun_says_how_far_it_is_from_the_json(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again, content = tmp_path / "again", json.loads((finished / "results.json").read_text())
    shutil.copytree(finished, again)
    more = [{**row, "seed": seed} for row in content["results"] for seed in (0, 1)]
    earlier = again / "results.json"  # written over by the rerun
    earlier.write_text(json.dumps({**content, "results": more}))
    assert cli.main(["compare", "--config", str(earlier), "--out", str(again)]) == 0
    told = (again / "agreement.md").read_text()
    assert str(again / "agreement.md") in capsys.readouterr().out
    assert "| quick | 5 | 2, 1 |" in told and "\n0 of " in told


def test_private_data_is_refused_in_one_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "data"
    private.mkdir()
    text = (data / "schema.yaml").read_text().replace("public: true", "public: false")
    (private / "schema.yaml").write_text(text)
    assert cli.main(["compare", "--data", str(private), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "public: true" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == known()
    assert "default" in known()
    assert all(len(line) < 100 and line.split(maxsplit=1)[1] for line in lines)
    assert cli.main(["compare", "--methods", "nothing"]) == 2


@pytest.mark.usefixtures("count")
def test_a_budget_becomes_steps_before_the_plan(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe().changed({**SETTINGS, "dp_sgd.steps": None, "sampler.model": "diffusion"})
    costs = stage_costs(places.schema(), recipe, Compute(), cache=places.cache)
    fitted = {"image_generator.steps", "image_generator.perceptual_steps"}
    assert set(costs) == fitted | {"pretraining.steps", "dp_sgd.steps"}
    other = recipe.changed({"pretraining.source": "none"})
    others = stage_costs(places.schema(), other, Compute(), cache=places.cache)
    assert others["dp_sgd.steps"] == costs["dp_sgd.steps"]  # one price for all methods
    assert others["pretraining.steps"] < costs["pretraining.steps"]
    # Without its share DP-SGD does not run: no price of nothing that others would share.
    bare = recipe.changed({"budget_split.image": 0.0})
    assert set(stage_costs(places.schema(), bare, Compute(), cache=places.cache)) == set(costs) - {
        "dp_sgd.steps"
    }
    changes = {**SETTINGS, "dp_sgd.steps": None, "sampler.model": "diffusion"}
    given = entries(["default"], list(changes.items()))
    total = 200 * costs["dp_sgd.steps"] + 15 * costs["image_generator.steps"]
    total += 6 * costs["pretraining.steps"] + 2 * costs["image_generator.perceptual_steps"]
    budgeted = configured(places.data, entries=given, budget_seconds=total)
    # Where the rule wants no step of so few people, what is left of the limit stays unused.
    none = resolve(budgeted, given[0], 2.0, places)
    assert none["budget_split"]["image"] == 0 and none["pretraining"]["steps"] == 6
    monkeypatch.setattr(planner, "dp_sgd_steps", lambda *_: 60)
    steps = resolve(budgeted, given[0], 2.0, places)["dp_sgd"]["steps"]
    assert abs(steps - 200) <= 2  # what the fixed parts leave
    less = configured(places.data, entries=given, budget_seconds=total / 10)
    assert resolve(less, given[0], 2.0, places)["dp_sgd"]["steps"] < 25


@pytest.mark.usefixtures("count")
def test_coarse_steps_take_the_time_that_is_left_as_far_as_noise_allows(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allow(steps: int) -> None:
        for module in (planner, staged):
            monkeypatch.setattr(
                module, "coarse_steps", lambda r, *_: min(steps, r.dp_sgd.most_steps or 20)
            )

    allow(20)
    changes = {**SETTINGS, "dp_sgd.steps": None, "sampler.model": "two_scale"}
    untaught = {"pretraining.source": "none", "budget_split.pairs": 0.0}
    recipe = preset("base").changed({**changes, **untaught})
    cost = stage_costs(places.schema(), recipe, Compute(), cache=places.cache)["dp_sgd.steps"]
    given = (Entry(label="base", method="base", settings={**changes, **untaught}),)
    limited = configured(places.data, entries=given, budget_seconds=100 * cost)
    for allowed, expected in ((10**6, 100), (40, 40)):
        allow(allowed)
        steps = resolve(limited, given[0], 2.0, places)["dp_sgd"]["steps"]
        assert abs(steps - expected) <= 1


@pytest.mark.usefixtures("count")
def test_the_two_scale_model_has_its_prices(places: Places) -> None:
    recipe = Recipe().changed({**SETTINGS, "sampler.model": "two_scale"})
    costs = stage_costs(places.schema(), recipe, Compute(), cache=places.cache)
    assert {"pretraining.steps", "dp_sgd.steps", "detail.steps"} < set(costs)
    assert all(cost > 0 for cost in costs.values())
    unseen = recipe.changed({"mean_pairs.perceptual_share": 0.0})
    assert "detail.steps" not in stage_costs(places.schema(), unseen, Compute(), cache=places.cache)


def test_presets_have_titles() -> None:
    assert all(method(name).title for name in known())


def test_a_table_of_one_column_and_a_generator_that_draws_have_their_prices(places: Places) -> None:
    schema = places.schema()
    unimodal = replace(schema, attributes=schema.attributes[:1])
    recipe = Recipe().changed({**SETTINGS, "budget_split.image": 0.0, "sampler.model": "generator"})
    costs = stage_costs(unimodal, recipe, Compute(), cache=places.cache)
    assert set(costs) == {"image_generator.steps", "image_generator.perceptual_steps"}
    assert all(cost > 0 for cost in costs.values())
    plain = recipe.changed({"mean_pairs.perceptual_share": 0.0})
    assert set(stage_costs(unimodal, plain, Compute(), cache=places.cache)) == {
        "image_generator.steps"
    }
