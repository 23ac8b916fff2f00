"""Public pictures from the pool to the release: both forms of the query, and images with one
label and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dagster_project.data.progress import silent
from dagster_project.data.schema import Schema
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.pipeline import (
    image_model,
    mean_pairs,
    pairs,
    pretrained_checkpoint,
    public_checkpoint,
    public_images,
    semantic_query,
    subsample,
    synthetic_release,
    table_model,
)
from dagster_project.pipeline.release import Release
from dagster_project.planning.planner import build_plan
from dagster_project.privacy import accounting
from dagster_project.privacy.plan import Plan
from dagster_project.release.verification import verify
from dagster_project.settings.presets import preset
from tests.toy_project import SETTINGS, materialise, write_project

SMALL = SETTINGS | {
    "public_images.images": 120,
    "public_images.extractor": "pixels",
    "semantic_query.selected": 0.2,
    "public_training.steps": 4,
    "public_training.batch": 16,
    "public_training.images": 100,
}
COLUMN = {
    "public_training.records": "soft",
    "budget_split.query": 0.0,
    "semantic_query.form": "column",
    "public_images.labels": 5,
}
ONE_CLASS = {
    '  bright: {kind: categorical, categories: ["no", "yes"], out_of_domain: drop}\n': "",
    "  weight: {kind: numeric, edges: [0, 1, 2, 4], missing: true, out_of_domain: clamp}\n": "",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@cache
def solved(schema: Schema, name: str, changes: str, target_epsilon: float = 5.0) -> Plan:
    """Each plan is solved once: that takes longer than running it."""
    return build_plan(
        schema,
        preset(name).changed(json.loads(changes)),
        name="test",
        target_epsilon=target_epsilon,
        target_delta=1e-4 if schema.n_public < 1000 else 1e-6,
        population="toys",
        data_version="listing:1",
        code_version="c0de",
        identity_key=b"k" * 32,
    )


@pytest.fixture
def release_of(tmp_path: Path) -> Iterator[Any]:
    """Makes a release with its records read, of a preset with changed settings."""
    ledgers = []

    def make(
        name: str = "privimage",
        changes: Mapping[str, Any] | None = None,
        schema_changes: Mapping[str, str] | None = None,
    ) -> Release:
        root = write_project(tmp_path / f"p{len(ledgers)}", **(schema_changes or {}))
        if schema_changes:
            records = (root / "data" / "records.csv").read_text().splitlines()
            short = [",".join(line.split(",")[:3]) for line in records]
            (root / "data" / "records.csv").write_text("\n".join(short) + "\n")
        schema = Schema.from_file(root / "data" / "schema.yaml")
        population = Population.load(root / "population.yaml")
        ledger = Ledger.open(population)
        ledgers.append(ledger)
        plan = solved(schema, name, json.dumps(SMALL | dict(changes or {})))
        ledger.reserve(plan, approved_by="a tester", schema_public=False)
        release = Release(plan=plan, schema=schema, ledger=ledger, root=root)
        release.write_schema()
        key = population.member_key()
        pairs.read(release, root / "data", heldout_key=key, progress=silent)
        return release

    yield make
    for ledger in ledgers:
        ledger.close()


def run_public(release: Release) -> None:
    public_images.prepare(release, silent)
    table_model.fit(release, silent)
    semantic_query.ask(release, silent)
    public_checkpoint.make(release, silent)


def run_all(release: Release) -> Path:
    run_public(release)
    subsample.draw(release)
    mean_pairs.measure(release, silent)
    pretrained_checkpoint.make(release, silent)
    image_model.train(release, silent)
    synthetic_release.make(release, release.bundle, n=40, seed=1, progress=silent)
    synthetic_release.commit(release, release.bundle)
    return release.bundle


def test_the_histogram_is_charged_and_runs_once(release_of):
    release = release_of()
    assert release.spends("semantic_query") and not release.spends("mean_pairs")
    run_public(release)
    answer = semantic_query.load(release)
    declared = release.declared("semantic_query")
    # Three attributes and three labels: sqrt(9) standard deviations for each multiple.
    assert answer.noise_std == pytest.approx(declared["noise_multiplier"] * 3)
    assert answer.counts.shape == (release.schema.width, 40)  # 20 classes and their negatives
    before = (release.models / semantic_query.ANSWER).read_bytes()
    assert semantic_query.ask(release, silent) is False
    assert (release.models / semantic_query.ANSWER).read_bytes() == before


@pytest.mark.parametrize("target_epsilon", [1.0, 10.0])
def test_the_query_costs_under_a_tenth_of_epsilon(target_epsilon):
    """At the example's size, whatever the total is."""
    schema = Schema.from_dict(
        {
            "name": "catalogue",
            "public": True,
            "person_id": "id",
            "n_public": 20_000,
            "image": {"column": "image", "channels": 1, "height": 28, "width": 28},
            "attributes": {
                f"a{i}": {"kind": "categorical", "categories": list("abcde")} for i in range(8)
            },
        }
    )
    plan = solved(schema, "privimage", '{"table.rounds": 10}', target_epsilon)
    query = plan.mechanism("semantic_query")
    assert accounting.epsilon([query.event], target_delta=1e-6) < 0.1
    assert plan.epsilon <= target_epsilon


def test_as_a_column_it_needs_no_mechanism_and_stays_inside(release_of):
    release = release_of(changes=COLUMN)
    assert not release.spends("semantic_query")
    run_public(release)
    whole, shown = table_model.load_whole(release), table_model.load(release)
    assert whole.model.names == (*release.schema.names, table_model.LABEL)
    assert whole.model.sizes == (*release.schema.sizes, 5)
    assert shown.model.names == release.schema.names
    assert not any(table_model.LABEL in m.names for m in shown.measurements)
    records = shown.model.sample(500, np.random.default_rng(0))
    assert records.shape == (500, 3)
    assert np.array_equal(records, whole.model.sample(500, np.random.default_rng(0))[:, :3])
    width = release.schema.width
    assert np.allclose(
        shown.model.conditional_blocks(), whole.model.conditional_blocks()[:width, :width]
    )
    with pytest.raises(ValueError, match="not distinct attributes"):
        shown.model.marginal((table_model.LABEL,))
    counts = semantic_query.load(release).counts
    assert counts.shape == (width, 5)
    for block in np.split(counts, release.schema.offsets[1:]):
        assert block.sum() == pytest.approx(whole.model.total)


def test_a_pool_of_fewer_labels_than_are_counted_is_refused_before_it_costs(release_of):
    with pytest.raises(ValueError, match="labels must be at least"):
        preset("privimage").changed({"public_images.labels": 2})
    release = release_of(changes={"semantic_query.top_k": 41})
    with pytest.raises(ValueError, match="40 labels"):
        public_images.prepare(release, silent)
    assert not (release.models / public_images.CLASSIFIER).exists()


def test_chosen_images_are_the_share_and_their_records_follow_the_label(release_of):
    release = release_of()
    run_public(release)
    pool, selection = public_images.load_pool(release), public_checkpoint.load(release)
    assert len(selection.images) == round(0.2 * len(pool))
    assert set(pool.labels[selection.images]) == set(selection.labels)
    assert public_checkpoint.preview(release).startswith(b"\x89PNG")
    before, after = release.new_network(), public_checkpoint.start(release)
    moved = [not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(),
                                                   strict=True)]  # fmt: skip
    assert any(moved)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("privimage", {}),
        ("privimage", COLUMN),
        ("privimage+pairs", {}),
    ],
)
def test_to_a_finished_release(release_of, name, changes):
    release = release_of(name, changes)
    bundle = run_all(release)
    verified = verify(bundle)
    assert verified.epsilon == release.plan.epsilon
    manifest = json.loads((bundle / "manifest.json").read_text())
    pool = public_images.facts(release)
    assert manifest["public_images"] == pool
    assert pool["images"] == 120 and "declared public" in pool["statement"]
    card = (bundle / "README.md").read_text()
    assert pool["name"] in card and pool["statement"] in card
    spent = {m.name for m in release.plan.mechanisms}
    assert ("mean_pairs" in spent) == (name == "privimage+pairs")


def test_without_a_pool_nothing_is_asked_or_written(release_of):
    release = release_of("base")
    run_public(release)
    assert release.ledger.committed(release.id, "semantic_query") is None
    assert release.ledger.committed(release.id, "public_checkpoint") is None
    assert {p.name for p in release.models.iterdir()} == {"schema.json", "table_model"}
    start, new = public_checkpoint.start(release), release.new_network()
    assert all(map(torch.equal, start.parameters(), new.parameters()))


def test_a_prepared_pool_is_kept_and_a_change_of_files_shows(release_of, monkeypatch, tmp_path):
    from PIL import Image

    folder = tmp_path / "pool"
    for label, grey in (("dark", 30), ("light", 220)):
        (folder / label).mkdir(parents=True)
        for i in range(9):
            Image.new("L", (14, 14), grey + i).save(folder / label / f"{i}.png")
    source = {"source": str(folder), "negatives": False}

    def prepared() -> Release:
        release = release_of(changes={"semantic_query.top_k": 2})
        recipe = dict(release.plan.recipe)
        recipe["public_images"] = recipe["public_images"] | source
        other = replace(release, plan=replace(release.plan, recipe=recipe))
        public_images.prepare(other, silent)
        return other

    first = public_images.facts(prepared())
    assert first["name"] == "pool" and first["images"] == 18
    with monkeypatch.context() as patched:
        patched.setattr(public_images, "_make", lambda *_: pytest.fail("made again"))
        assert public_images.facts(prepared()) == first
    (folder / "dark" / "0.png").unlink()
    assert public_images.facts(prepared())["images"] == 17


def test_images_with_one_label_and_no_other_column(release_of):
    """PrivImage's own use: one class attribute, sensitivity sqrt(k), nothing to select. By MST
    here, by AIM through the graph below."""
    release = release_of("privimage", {"table.method": "mst"}, ONE_CLASS)
    assert release.schema.names == ("shape",)
    assert [m.name for m in release.plan.mechanisms] == [
        "minimum_people",
        "table_model.measurement",
        "semantic_query",
        "image_model",
    ]
    bundle = run_all(release)
    assert verify(bundle).files > 3
    answer = semantic_query.load(release)
    noise = release.declared("semantic_query")["noise_multiplier"]
    assert answer.noise_std == pytest.approx(noise * 3**0.5)
    people = table_model.load(release).model.total
    assert 100 < people < 900


def test_the_graph_carries_it(tmp_path):
    """All assets with the preset's settings on top, one class attribute: to the report."""
    root = write_project(tmp_path, **ONE_CLASS)
    records = (root / "data" / "records.csv").read_text().splitlines()
    short = [",".join(line.split(",")[:3]) for line in records]
    (root / "data" / "records.csv").write_text("\n".join(short) + "\n")
    made = materialise(root, preset="privimage", settings={**SMALL, "table.rounds": 0})
    assert made.success
    report = next((root / "private").glob("*/fidelity_report.json"))
    figures = json.loads(report.read_text())
    assert figures["fd"] > 0 and "shape" in json.dumps(figures)
