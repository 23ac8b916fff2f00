"""The graph as Dagster sees it: zones, versions, and nothing that spends by itself."""

from __future__ import annotations

import dagster as dg
import pytest

from dagster_project.orchestration.definitions import (
    STAGE_ASSETS,
    build_definitions,
    definitions,
)
from dagster_project.pipeline.order import STAGES

ORDER = tuple(stage.name for stage in STAGES)
ZONES = {
    "private": {"pairs", "subsample", "fidelity_report"},
    "dp": {
        "minimum_people", "table_model", "semantic_query", "public_checkpoint", "mean_pairs",
        "pretrained_checkpoint", "image_model", "detail_model",
    },
    "public": {
        "dataset", "privacy_plan", "public_images", "synthetic_release", "budget_lineage",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    return definitions.resolve_asset_graph()


def node(graph, name):
    return graph.get(dg.AssetKey(name))


def test_definitions_load_and_can_be_run(tmp_path):
    dg.Definitions.validate_loadable(definitions)
    dg.Definitions.validate_loadable(build_definitions(tmp_path))
    assert not list(tmp_path.iterdir())  # loading writes nothing


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("data", {"folder": "other"}),
        ("budget", {"approved_by": "a steward"}),
        ("store", {}),
        ("tracking", {"private": True}),
    ],
)
def test_a_run_that_sets_one_field_keeps_the_root(tmp_path, name, config):
    resource = build_definitions(tmp_path).resources[name]
    asked = {name: {"config": config}}
    with dg.build_resources({name: resource}, resource_config=asked) as found:
        used = getattr(found, name)
        assert used.root == str(tmp_path)
        assert all(getattr(used, field) == value for field, value in config.items())


def test_assets_are_the_stages(graph):
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {"data_files", *ORDER}
    assert {k.name: k.asset_key.to_user_string() for k in graph.asset_check_keys} == {
        "files_match_schema": "dataset",
        "within_budget": "privacy_plan",
        "records_fit_schema": "pairs",
    }


@pytest.mark.parametrize("name", ORDER)
def test_every_asset_names_its_zone_and_version(graph, name):
    asset = node(graph, name)
    (zone,) = (zone for zone, names in ZONES.items() if name in names)
    assert asset.tags["zone"] == zone and asset.group_name == zone
    assert len(asset.code_version) == 16
    assert asset.description


def test_versions_tell_stages_apart(graph):
    versions = {name: node(graph, name).code_version for name in ORDER}
    assert len(set(versions.values())) == len(versions)


def test_what_precedes_what(graph):
    above = {name: {k.to_user_string() for k in node(graph, name).parent_keys} for name in ORDER}
    assert above["privacy_plan"] == {"dataset"} and above["pairs"] == {"privacy_plan"}
    assert above["mean_pairs"] == {"subsample", "table_model"}
    for name in ORDER[2:]:  # nothing of the release exists before its plan is reserved
        ancestors, open_ends = set(), {name}
        while open_ends:
            found = set().union(*(above.get(n, set()) for n in open_ends)) - ancestors
            ancestors, open_ends = ancestors | found, found
        assert "privacy_plan" in ancestors


def test_blocking_checks_are_those_that_read_no_record(graph):
    blocking = {key.name for key in graph.asset_check_keys if graph.get(key).blocking}
    assert blocking == {"files_match_schema", "within_budget"}


def test_nothing_is_drawn_again_or_started_by_the_orchestrator():
    for assets in STAGE_ASSETS:
        assert assets.op.retry_policy is None
        assert not assets.automation_conditions_by_key
        assert not assets.auto_materialize_policies_by_key
    repository = definitions.get_repository_def()
    for job in repository.get_all_jobs():
        assert all(n.retry_policy is None for n in job.nodes), job.name
    assert definitions.resolve_job_def("release").tags["dagster/max_retries"] == "0"
    assert not repository.schedule_defs
    for sensor in repository.sensor_defs:  # one may tell, none may run
        assert not sensor.has_jobs, sensor.name


def test_string_selections_resolve(graph):
    everything = dg.AssetSelection.from_string("*").resolve(graph)
    assert {key.to_user_string() for key in everything} == set(ORDER)
    private = dg.AssetSelection.from_string("tag:zone=private").resolve(graph)
    assert {key.to_user_string() for key in private} == ZONES["private"]
    behind = dg.AssetSelection.from_string('key:"privacy_plan"+').resolve(graph)
    assert dg.AssetKey("pairs") in behind


def test_training_shares_one_pool(graph):
    pools = {name: node(graph, name).pools for name in ORDER}
    assert {n for n, p in pools.items() if p} == {
        "public_checkpoint", "pretrained_checkpoint", "image_model", "detail_model",
        "synthetic_release",
    }  # fmt: skip
    assert set().union(*pools.values()) == {"gpu"}


def test_values_between_assets_are_release_ids():
    """No default IO manager, which would pickle whatever it is given."""
    for assets in STAGE_ASSETS:
        for key in assets.keys:
            assert assets.get_io_manager_key_for_asset_key(key) == "release_id"
