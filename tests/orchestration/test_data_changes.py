"""New people in the data: what is proposed, who is read, who pays, and that nothing runs alone."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from dagster_project.cli import main as cli
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.orchestration.definitions import build_definitions
from dagster_project.pipeline import proposal
from dagster_project.settings.recipe import Recipe
from tests.ledger.toys import SHA, executed, plan, population
from tests.toy_project import PEOPLE, ledger_of, materialise, settings_arguments, write_project

TO_TABLE_MODEL = (
    "dataset", "privacy_plan", "public_images", "pairs", "minimum_people", "table_model",
)  # fmt: skip
NEW = 160
ASKED = ("--epsilon", "5", "--delta", "1e-4")


def command(root: Path, *arguments: str) -> tuple[int, str]:
    """Exit code, and what was printed."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = cli.main([arguments[0], "--root", str(root), *arguments[1:]])
    return code, text.getvalue()


def add_to_dvc(root: Path, version: str) -> None:
    """Stands for `dvc add data`."""
    files = [path for path in (root / "data").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    out = {"md5": version, "size": size, "nfiles": len(files), "path": "data"}
    (root / "data.dvc").write_text(json.dumps({"outs": [out]}))


def spent(root: Path) -> dict[str, float]:
    with ledger_of(root) as ledger:
        return {cohort.name: cohort.spent for cohort in ledger.cohorts()}


def trained(root: Path, release_id: str) -> int:
    """Private training pairs of a release, and held-out ones."""
    counts = json.loads((root / "private" / release_id / "counts.json").read_text())
    assert len(np.load(root / "private" / release_id / "train" / "codes.npy")) == counts["train"]
    return counts["train"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_project(tmp_path_factory.mktemp("changing"))
    add_to_dvc(root, "a" * 32)
    return root


@pytest.fixture(scope="module")
def first(root: Path) -> str:
    """A release on the first version of the data."""
    result = materialise(root, assets=TO_TABLE_MODEL)
    assert result.success
    return result.output_for_node("privacy_plan")


@pytest.fixture(scope="module")
def grown(root: Path, first: str) -> Path:
    """The same data with new people in it, and a cohort for them."""
    records = root / "data" / "records.csv"
    lines = records.read_text().splitlines()
    image = sorted((root / "data" / "images").iterdir())[0].name
    lines += [f"new-{i},{image},disc,yes,1.5" for i in range(NEW)]
    records.write_text("\n".join(lines) + "\n")
    add_to_dvc(root, "b" * 32)
    arguments = ("add-cohort", "newcomers", "--n-public", str(NEW), "--approved-by", "a steward")
    assert command(root, "ledger", *arguments)[0] == 0
    return root


def tick(root: Path, cursor: str | None = None) -> tuple[str, str | None, list[str]]:
    """What the sensor says, its cursor afterwards, and the versions that it observed."""
    definitions = build_definitions(root)
    sensor = definitions.resolve_sensor_def("data_changed")
    resources = {
        k: v for k, v in definitions.resources.items() if k in sensor.required_resource_keys
    }
    (root / ".dagster").mkdir(exist_ok=True)
    with (
        dg.DagsterInstance.local_temp(str(root / ".dagster")) as instance,
        dg.build_sensor_context(instance, cursor, resources=resources) as context,
    ):
        answer = sensor(context)
        if isinstance(answer, dg.SkipReason):
            return str(answer.skip_message), context.cursor, []
        assert isinstance(answer, dg.SensorResult) and not answer.run_requests
        for event in answer.asset_events:
            assert event.asset_key == dg.AssetKey("data_files")
            instance.report_runless_asset_event(event)
        seen = [event.tags["dagster/data_version"] for event in answer.asset_events]
        return str(answer.skip_reason.skip_message), context.cursor, seen


def test_before_any_release_nothing_is_created(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    assert "under DVC" in tick(root)[0]
    add_to_dvc(root, "c" * 32)
    assert "no ledger yet" in tick(root)[0]
    assert not (root / "ledger").exists()


def test_a_release_for_the_new_people_reads_and_charges_them_alone(grown: Path, first: str) -> None:
    before = spent(grown)
    assert before["founding"] > 0 and before["newcomers"] == 0
    result = materialise(grown, assets=TO_TABLE_MODEL, name="second", people="newcomers")
    assert result.success
    after, second = spent(grown), result.output_for_node("privacy_plan")
    assert after["founding"] == before["founding"] and after["newcomers"] > 0
    assert trained(grown, first) > 0.8 * PEOPLE
    # The held-out tenth of them does not train either.
    assert 0.75 * NEW < trained(grown, second) <= NEW
    with ledger_of(grown) as ledger:
        release = ledger.release(second)
        assert release.plan["n_public"] == NEW and set(release.charges) == {"newcomers"}
        assert {item["cohort"] for item in release.plan["mechanisms"]} == {"newcomers"}
        ledger.verify(reprice=True)
    result = materialise(grown, assets=TO_TABLE_MODEL, name="third")
    assert trained(grown, result.output_for_node("privacy_plan")) == trained(
        grown, first
    ) + trained(grown, second)


def test_an_unknown_cohort_is_one_sentence(grown: Path) -> None:
    data = str(grown / "data")
    code, text = command(grown, "plan", "--data", data, "--people", "nobody", *ASKED)
    assert code == 3 and text.count("\n") == 1 and "add-cohort" in text


def test_plan_and_release_name_the_same_release(grown: Path, first: str) -> None:
    """The price that was shown is the price that is paid."""
    arguments = ("--data", str(grown / "data"), "--name", "third", *settings_arguments(), *ASKED)
    text = command(grown, "plan", "--json", *arguments)[1]
    with ledger_of(grown) as ledger:
        assert json.loads(text)["plan"]["release_id"] in ledger.releases()


def test_three_modes_are_priced_and_nothing_is_spent(grown: Path) -> None:
    before = spent(grown)
    arguments = ("--data", str(grown / "data"), *settings_arguments(), *ASKED)
    code, text = command(grown, "plan", "--modes", "--json", *arguments)
    assert code == 0
    reuse, new, refresh = json.loads(text)
    assert (reuse["name"], new["name"], refresh["name"]) == ("reuse", "new people only", "refresh")
    assert "nothing has been released" in reuse["price"]  # none is complete here
    assert "'newcomers'" in new["price"] and "--people newcomers" in new["command"]
    assert "lifetime budget" in refresh["price"] and refresh["fits"]
    assert "- **refresh**" in command(grown, "plan", "--modes", *arguments)[1]
    assert spent(grown) == before


def test_the_sensor_proposes_once_and_runs_nothing(grown: Path) -> None:
    before = spent(grown)
    told, cursor, seen = tick(grown)
    keyed = Population.load(grown / "population.yaml").keyed_version("md5:" + "b" * 32)
    file = grown / "private" / "proposals" / f"{keyed[:16]}.md"
    assert f"wrote private/proposals/{file.name}" in told
    text = file.read_text()
    assert "**reuse**" in text and "**new people only**" in text and "**refresh**" in text
    assert text in told and "b" * 32 not in told
    assert cursor == keyed and not seen  # `dataset` was materialised from it
    file.unlink()
    assert "no new version" in tick(grown, cursor)[0]
    assert not file.exists() and spent(grown) == before


def test_modes_without_a_request_price_what_the_sensor_proposes(grown: Path) -> None:
    text = command(grown, "plan", "--modes", "--data", str(grown / "data"), "--delta", "1e-4")[1]
    assert "--epsilon 3 --delta 0.0001" in text  # a request of its own
    told = tick(grown)[0]
    text = command(grown, "plan", "--modes", "--data", str(grown / "data"))[1]
    assert text.strip() in told and "cohort 'founding' and cohort 'newcomers' each" in text


def test_the_graph_is_stale_as_soon_as_the_sensor_saw_new_data(grown: Path) -> None:
    assert materialise(grown, assets=("dataset",)).success
    with stale_assets(grown) as found:
        assert "dataset" not in found
    add_to_dvc(grown, "d" * 32)
    try:
        (version,) = tick(grown)[2]
        keyed = Population.load(grown / "population.yaml").keyed_version("md5:" + "d" * 32)
        assert version.startswith(f"{keyed} ") and "d" * 32 not in version
        with stale_assets(grown) as found:
            assert "dataset" in found
    finally:
        add_to_dvc(grown, "b" * 32)


@contextlib.contextmanager
def stale_assets(root: Path) -> Iterator[set[str]]:
    """The assets that Dagster's page would mark as stale."""
    from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
    from dagster._core.loader import LoadingContextForTest

    graph = build_definitions(root).resolve_asset_graph()
    with dg.DagsterInstance.local_temp(str(root / ".dagster")) as instance:
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        names = [*TO_TABLE_MODEL]
        yield {n for n in names if resolver.get_status(dg.AssetKey(n)) == StaleStatus.STALE}


def test_the_sensor_says_what_is_wrong_in_one_sentence(grown: Path) -> None:
    people = grown / "population.yaml"
    text = people.read_text()
    (grown / "data" / "another.txt").write_text("not in data.dvc")
    try:
        assert "dvc add" in tick(grown)[0]
    finally:
        (grown / "data" / "another.txt").unlink()
    people.write_text(text.replace("lifetime_epsilon: 12.0", "lifetime_epsilon: 99.0"))
    try:
        assert "cannot be changed" in tick(grown)[0]
    finally:
        people.write_text(text)


def versions(root: Path) -> tuple[str, str]:
    """The data's version as Dagster keeps it, and as its page shows it."""
    (made,) = materialise(root, assets=("dataset",)).get_asset_materialization_events()
    shown = made.materialization.metadata["version"].value
    return made.materialization.tags["dagster/data_version"], str(shown)


@pytest.mark.parametrize("public", [False, True])
def test_the_version_follows_the_data_and_is_shown_only_where_they_are_public(
    tmp_path: Path, public: bool
) -> None:
    changed = {"public: false": "public: true"} if public else {}
    root, other = (write_project(tmp_path / name, **changed) for name in ("one", "two"))
    told = []
    for version in ("a" * 32, "a" * 32, "b" * 32):
        add_to_dvc(root, version)
        told.append(versions(root))
    (first, shown), again, (new, _) = told
    assert (first, shown) == again and first != new
    assert ("a" * 32 in shown) is public and "a" * 32 not in first
    add_to_dvc(other, "a" * 32)
    assert versions(other)[0] != first  # another population, another key


def test_a_plan_names_the_version_that_was_materialised(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    add_to_dvc(root, "a" * 32)
    assert materialise(root, assets=("dataset",)).success
    add_to_dvc(root, "b" * 32)
    late = materialise(root, assets=("privacy_plan",))
    (failure,) = (e.step_failure_data for e in late.all_events if e.is_step_failure)
    assert "the data has changed since" in failure.error.message
    with ledger_of(root) as ledger:
        assert not ledger.releases()


def test_nothing_that_spends_is_automated(tmp_path: Path) -> None:
    """No automation condition, no schedule, no retry, and sensors that have nothing to launch."""
    definitions = build_definitions(tmp_path)
    repository = definitions.get_repository_def()
    assert all(spec.automation_condition is None for spec in definitions.resolve_all_asset_specs())
    assert all(spec.automation_condition is None for spec in _check_specs(definitions))
    assert not repository.schedule_defs
    # An automation sensor would be made by Dagster itself beside ours.
    assert [sensor.name for sensor in repository.sensor_defs] == ["data_changed"]
    for sensor in repository.sensor_defs:
        assert not sensor.targets
    job = definitions.resolve_job_def("release")
    assert int(job.tags["dagster/max_retries"]) == 0
    for node in job.graph.nodes:
        assert node.retry_policy is None and node.definition.retry_policy is None


def _check_specs(definitions: dg.Definitions) -> list[dg.AssetCheckSpec]:
    graph = definitions.resolve_asset_graph()
    return [graph.get_check_spec(key) for key in graph.asset_check_keys]


def test_a_complete_release_can_be_reused_at_no_cost_and_its_request_repeated(
    tmp_path: Path,
) -> None:
    ledger = Ledger.open(population(tmp_path))
    recipe = Recipe().changed({"table.rounds": 3, "network.channels": [8]}).model_dump(mode="json")
    done = plan("autumn-0123456789", recipe=recipe)
    ledger.reserve(done, approved_by="x", schema_public=False)
    assert proposal.latest(ledger) is None
    ledger.open_reservation(done.release_id)
    ledger.begin(done.release_id, "table_model", executed(done, "table_model"))
    ledger.commit(done.release_id, "table_model", {"table.npz": SHA})
    latest = proposal.latest(ledger)
    assert latest is not None
    mode = proposal._reuse(latest, ledger.cohorts())
    assert mode.price.startswith("adds 0: cohort 'founding' stays at")
    assert mode.command.startswith("dptabimage sample autumn-0123456789")
    request = proposal.ReleaseRequest.like(latest)
    assert (request.name, request.epsilon, request.delta) == ("autumn", 1.0, 1e-6)
    assert request.settings == {"table.rounds": 3, "network.channels": [8]}
    assert request.options == (
        "--epsilon 1 --delta 1e-06 --name autumn --set 'network.channels=[8]' --set table.rounds=3"
    )
