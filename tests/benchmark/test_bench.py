"""Trials: charged as stated, resumed after a kill, and never mixed up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dagster_project.benchmark import bench, project, trial
from dagster_project.benchmark.configuration import Configuration, entries, place
from dagster_project.benchmark.registry import method
from dagster_project.benchmark.trial import Places
from dagster_project.ledger import Ledger
from dagster_project.privacy.accounting import epsilon
from tests.benchmark.conftest import configured

pytestmark = pytest.mark.usefixtures("count")


def run(configuration: Configuration, places: Places, **options: Any) -> list[dict[str, Any]]:
    rows, failed = bench.run(
        configuration, places, json_file=places.out / "results.json", **options
    )
    assert not failed
    return rows


def test_a_trial_states_what_its_ledger_charges(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged: list[float] = []
    close = Ledger.close

    def read(ledger: Ledger) -> None:
        for release in ledger.releases().values():
            plan = release.plan
            events = [bench_event(m) for m in plan["mechanisms"]]
            delta, grid = plan["target_delta"], plan["discretization"]
            charged.append(epsilon(events, target_delta=delta, discretization=grid))
            kinds = [entry.kind for entry in ledger.entries()]
            assert kinds.index("RESERVED") < kinds.index("OPENED") < kinds.index("STARTED")
        close(ledger)

    monkeypatch.setattr(Ledger, "close", read)
    (row,) = run(configured(places.data), places)
    assert charged[-1] == pytest.approx(row["epsilon_spent"], rel=1e-9)
    assert 1.9 < row["epsilon_spent"] <= row["epsilon"] == 2.0
    assert row["delta"] == 1e-4
    assert "NOT A RELEASE" in row["notice"]


def bench_event(mechanism: dict[str, Any]) -> Any:
    from dagster_project.privacy.events import from_json

    return from_json(mechanism["event"])


def test_a_stage_that_is_planned_must_run(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    system = type(method("count"))
    monkeypatch.setattr(system, "synthesise", lambda self, release, data, n, seed, progress: None)
    rows, failed = bench.run(configured(places.data), places, json_file=places.out / "results.json")
    assert not rows and len(failed) == 1
    assert (
        "the method did not run count"
        in places.result(failed[0]).with_suffix(".error.txt").read_text()
    )


def test_a_killed_comparison_goes_on_trial_by_trial(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = configured(places.data, seeds=(0, 1, 2))

    def kill(text: str) -> None:
        if text.startswith("2/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(configuration, places, told=kill)
    system, ran = type(method("count")), []
    synthesise = system.synthesise

    def noted(self: Any, release: Any, data: Path, n: int, seed: int, progress: Any) -> Any:
        ran.append(seed)
        return synthesise(self, release, data, n, seed, progress)

    monkeypatch.setattr(system, "synthesise", noted)
    rows = run(configuration, places)
    assert ran == [2]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    kept = json.loads((places.out / "results.json").read_text())
    assert [row["seed"] for row in kept["results"]] == [0, 1, 2]
    assert "NOT A RELEASE" in kept["notice"]
    assert "NOT A RELEASE" in (places.out / "table.md").read_text()
    with Image.open(places.out / "grid.png") as grid:
        assert grid.width > 400


def test_whatever_decides_a_trial_is_in_its_key(data: Path) -> None:
    def keys(**changes: Any) -> set[str]:
        configuration = configured(data, **changes)
        resolved = {
            place(entry, e): {"a": len(entry.settings)}
            for entry in configuration.entries
            for e in configuration.epsilons
        }
        return {c.key.rpartition("-")[2] for c in configuration.with_resolved(resolved).trials()}

    different = [
        keys(),
        keys(seeds=(1,)),
        keys(epsilons=(3.0,)),
        keys(n=61),
        keys(delta=2e-4),
        keys(extractor="efficientnet-lite0"),
        keys(data_version="listing:other"),
        keys(entries=entries(["count"], [("public_seed", 3)])),
    ]
    assert len(set.union(*different)) == len(different)
    assert keys(entries=entries(["again=count"], [])) == keys()


def test_images_changed_in_the_pool_make_another_trial(data: Path, tmp_path: Path) -> None:
    def key() -> str:
        configuration = configured(data)
        recipe = {"public_images": {"source": str(tmp_path / "pool")}}
        places = {
            place(e, x): recipe for e in configuration.entries for x in configuration.epsilons
        }
        return configuration.with_resolved(places).trials()[0].key

    image = tmp_path / "pool" / "cats" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"one")
    first = key()
    assert key() == first
    image.write_bytes(b"another")
    assert key() != first


def test_shared_work_is_made_once_and_kept_apart_by_seed(places: Places) -> None:
    configuration = configured(
        places.data, seeds=(0, 1), epsilons=(2.0, 4.0), entries=entries(["count", "b=count"], [])
    )
    rows = run(configuration, places)
    made = sorted(path.name.partition("-")[0] for path in places.cache.iterdir() if path.is_dir())
    assert made == ["pairs", "reference", "reference"]
    ceilings = {row["seed"]: set() for row in rows}
    for row in rows:
        ceilings[row["seed"]].add((row["auc_ceiling"], row["fd_real"]))
    assert all(len(values) == 1 for values in ceilings.values())
    assert ceilings[0] != ceilings[1]


def test_what_does_not_exist_is_a_dash_and_null(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data of two attributes have no 3-way distance."""
    monkeypatch.setattr(trial, "_distance_of_pairs", lambda *_: {"tvd_3way_of_pairs": math.nan})
    (row,) = run(configured(places.data), places)
    assert row["tvd_3way_of_pairs"] is None
    text = (places.out / "results.json").read_text()
    assert "NaN" not in text and json.loads(text)["results"] == [row]
    table = (places.out / "table.md").read_text()
    assert "nan" not in table and "—" in table


def test_private_data_is_refused_before_anything_is_read(data: Path, tmp_path: Path) -> None:
    private = tmp_path / "data"
    private.mkdir()
    text = (data / "schema.yaml").read_text().replace("public: true", "public: false")
    (private / "schema.yaml").write_text(text)
    places = Places(data=private, out=tmp_path / "out", cache=tmp_path / "cache")
    with pytest.raises(ValueError, match="public: true"):
        run(configured(data), places)
    assert not places.out.exists() and not places.cache.exists()


def test_another_schema_is_not_the_same_comparison(places: Places) -> None:
    configuration = replace(configured(places.data), schema_hash="0" * 64)
    with pytest.raises(ValueError, match="not the one"):
        run(configuration, places)


def test_all_trials_are_split_alike(places: Places) -> None:
    """The held-out people follow a public key, whatever project reads them."""
    schema, version = places.schema(), bench.current_version(places.data)
    folders = [
        project.real_pairs(places.data, schema, version, cache=places.cache / name)
        for name in ("a", "b")
    ]
    first, second = ((folder / "heldout" / "codes.npy").read_bytes() for folder in folders)
    assert first == second
    assert len(first) > 200


def test_a_finished_trial_is_not_run_again(places: Places) -> None:
    (row,) = run(configured(places.data), places)
    content = json.loads((places.out / "results.json").read_text())
    configuration = Configuration.from_json(content["configuration"])
    (one,) = configuration.trials()
    places.images(one).unlink()
    assert trial.run(configuration, one, places)["auc_mean"] == row["auc_mean"]
    assert not places.images(one).exists()
