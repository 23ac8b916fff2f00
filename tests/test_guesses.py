"""Whoever guesses the private data finds nothing outside the private zone to check the guess by."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagster_project.audits import guesses, toys
from dagster_project.audits.guesses import Guessable
from dagster_project.cli import main as cli
from dagster_project.ledger.population import Population
from dagster_project.orchestration.resources import ComputeResource
from dagster_project.privacy.events import from_json
from dagster_project.privacy.plan import Plan, PlannedMechanism
from dagster_project.release import manifest
from tests.orchestration.test_data_changes import tick
from tests.toy_project import captured, ledger_of, materialise

TRAIN, HELD_OUT, N_PUBLIC = 1427, 1163, 1000
WRONG = "md5:" + "5" * 32 + ".dir"


def dvc_version(data: Path) -> str:
    """The md5 that DVC gives a folder."""
    listing = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.name}
        for path in sorted(data.iterdir())
    ]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"


def write_project(root: Path) -> None:
    """More people than n_public, held-out ones in a file of their own, all under DVC."""
    data = root / "data"
    data.mkdir(parents=True)
    population = toys.POPULATION.format(lifetime=12.0)
    for file, text in ((root / "population.yaml", population), (data / "schema.yaml", toys.SCHEMA)):
        file.write_text(text.replace("n_public: 320", f"n_public: {N_PUBLIC}"))
    people = pa.table(toys.columns(TRAIN + HELD_OUT))
    pq.write_table(people.slice(0, TRAIN), data / "train.parquet")
    pq.write_table(people.slice(TRAIN), data / "heldout.parquet")
    sizes = [path.stat().st_size for path in data.iterdir()]
    out = {"md5": dvc_version(data), "size": sum(sizes), "nfiles": len(sizes), "path": "data"}
    (root / "data.dvc").write_text(json.dumps({"outs": [out]}))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release, as the user interface and the command line make it, and all that they print."""
    root = tmp_path_factory.mktemp("guessed") / "project"
    write_project(root)
    (root / "temporary").mkdir()
    with captured(root / "printed.txt"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(root / "temporary"))
        for assets in (None, ("dataset", "privacy_plan", "pairs")):
            assert materialise(root, assets=assets).success
        print(*tick(root))
        name = next((root / "releases").iterdir()).name
        asked = ["--data", str(root / "data"), "--delta", "1e-4"]
        for command, *arguments in (
            ["plan", *asked],
            ["plan", *asked, "--json"],
            ["plan", *asked, "--modes"],
            ["sample", name, "--n", "30", "--seed", "8"],
            ["lineage", name, "--public"],
            ["lineage", name, "--public", "--json"],
            ["lineage", name, "--public", "--html", str(root / "lineage.html")],
            ["ledger", "show"],
            ["ledger", "verify"],
            ["verify", str(root / "releases" / name)],
        ):
            place = [] if command == "verify" else ["--root", str(root)]
            assert cli.main([command, *place, *arguments]) == 0
    return root


@pytest.fixture(scope="module")
def plan(root: Path) -> Plan:
    with ledger_of(root) as ledger:
        (release,) = ledger.releases().values()
    return Plan.from_json(release.plan)


@pytest.fixture(scope="module")
def wanted(root: Path, plan: Plan) -> Guessable:
    key = Population.load(root / "population.yaml").member_key()
    return guesses.guessable(root, plan, key)


def test_nothing_outside_the_private_zone_confirms_a_guess(root: Path, wanted: Guessable) -> None:
    counted = {TRAIN, HELD_OUT, TRAIN + HELD_OUT}
    assert counted <= wanted.numbers.keys() and len(wanted.digests) > 100
    searched, found = guesses.search(root, wanted)
    assert found == {}
    assert searched > 30


def test_the_search_finds_what_lies_inside(root: Path, wanted: Guessable, tmp_path: Path) -> None:
    """The same search of the same files, were they outside."""
    for folder in ("ledger", "private"):
        shutil.copytree(root / folder, tmp_path / f"{folder} copied")
    shutil.copy(root / "data.dvc", tmp_path / "pointer.dvc")
    _, found = guesses.search(tmp_path, wanted)
    names = {name for names in found.values() for name in names}
    assert {"the version of the data", "sha256 of the plan", "the identity key"} <= names
    assert {"the number: train", "the number: held_out", "the size of the data"} <= names
    assert "pointer.dvc" in found and any(name.endswith("ledger.sqlite") for name in found)


def database(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path)) as store:
        store.execute("CREATE TABLE IF NOT EXISTS planted (value)")
        store.execute(statement, values)
        store.commit()


def plant(value: object) -> Callable[[Path], Any]:
    return lambda at: database(at, "INSERT INTO planted VALUES (?)", value)


def text(value: object) -> Callable[[Path], Any]:
    return lambda at: at.write_text(f"told: {value}, and more")


@pytest.mark.parametrize(
    "form", ["tag", "cut", "text", "upper", "base64", "raw", "inflated", "name"]
)
@pytest.mark.parametrize(
    "what",
    [
        "the version of the data",
        "md5 of the version of the data",
        "sha256 of the plan",
        "sha256 of the release's identity",
        "sha256 of data/train.parquet",
        "sha1 of data/train.parquet",
        "md5 of what data/train.parquet holds",
        "sha256 of private/{}/train/codes.npy",
        "md5 of what private/{}/train/images.npy holds",
        "sha256 of private/{}/fidelity_report.json",
    ],
)
def test_a_planted_hash_is_found(
    wanted: Guessable, plan: Plan, tmp_path: Path, what: str, form: str
) -> None:
    name = what.format(plan.release_id)
    digest = next(digest for digest, known in wanted.digests.items() if known == name)
    place = tmp_path / "store.db"
    {
        "tag": plant(f"md5:{digest}.dir"),
        "cut": plant(json.dumps({"version": f"data-{digest[:8]}"})),
        "text": text(digest),
        "upper": text(f"<{digest.upper()}>"),
        "base64": text(base64.b64encode(bytes.fromhex(digest)).decode()),
        "raw": lambda at: at.write_bytes(b"\0\xff" + bytes.fromhex(digest)),
        "inflated": plant(zlib.compress(f'{{"hash": "{digest}"}}'.encode())),
        "name": lambda at: at.with_name(f"{digest[:12]}.json").write_text("{}"),
    }[form](place)
    _, found = guesses.search(tmp_path, wanted)
    assert [name in names for names in found.values()] == [True]


@pytest.mark.parametrize("number", ["rows", TRAIN, HELD_OUT, "size", "images"])
@pytest.mark.parametrize("form", ["integer", "real", "json", "sentence", "grouped", "array"])
def test_a_planted_number_is_found(
    root: Path, wanted: Guessable, plan: Plan, tmp_path: Path, number: int | str, form: str
) -> None:
    images = root / "private" / plan.release_id / "train" / "images.npy"
    count = {
        "rows": TRAIN + HELD_OUT,
        "size": (root / "data" / "train.parquet").stat().st_size,
        "images": images.stat().st_size,
    }.get(str(number), number)
    assert isinstance(count, int)
    place = tmp_path / "store.db"
    {
        "integer": plant(count),
        "real": plant(float(count)),
        "json": plant(json.dumps({"n": [7, count]}, separators=(",", ":"))),
        "sentence": text(f"{count} pairs"),
        "grouped": text(f"{count:,}"),
        "array": lambda at: np.savez(at.with_suffix(".npz"), total=np.array([1.0, count])),
    }[form](place)
    _, found = guesses.search(tmp_path, wanted)
    assert len(found) == 1


def rebuilt(stated: dict[str, Any], data_version: str) -> Plan:
    """The plan, from the public manifest and a guess of the data's version."""
    privacy = stated["privacy"]
    mechanisms = [
        PlannedMechanism(**item | {"event": from_json(dict(item["event"]))})
        for item in privacy["mechanisms"]
    ]
    settings = stated["settings"]
    return Plan(
        release_id=stated["release_id"],
        population=stated["population"],
        data_version=data_version,
        schema_hash=stated["schema_hash"],
        code_version=stated["code_version"],
        target_epsilon=5.0,
        target_delta=privacy["delta"],
        n_public=privacy["n_public"],
        discretization=privacy["discretization"],
        mechanisms=tuple(mechanisms),
        composed_epsilon=privacy["epsilon"],
        epsilon_prv=privacy["epsilon_prv_gaussian_only"],
        recipe=settings,
    )


def test_a_right_guess_of_the_data_looks_like_a_wrong_one(root: Path, plan: Plan) -> None:
    stated = manifest.read(root / "releases" / plan.release_id)
    right, wrong = (rebuilt(stated, v) for v in (plan.data_version, WRONG))
    assert right == plan and right.data_version == f"md5:{dvc_version(root / 'data')}"
    assert wrong == replace(plan, data_version=WRONG)  # all else is public
    for guess in (right, wrong):
        wanted = guesses.guessable(root, guess, bytes(range(32)))  # without the key
        assert guess.hash in wanted.digests
        assert guesses.search(root, wanted)[1] == {}


def test_the_auditor_finds_the_version_behind_what_dagster_keeps(
    root: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the ledger and the key, and with nothing less."""
    assert cli.main(["lineage", "--root", str(root), plan.release_id, "--json"]) == 0
    (release,) = json.loads(capsys.readouterr().out)["releases"]
    assert release["data_version"] == plan.data_version and release["plan_hash"] == plan.hash
    keyed = release["keyed_data_version"]
    assert keyed == Population.load(root / "population.yaml").keyed_version(plan.data_version)
    assert keyed != Population.load(root / "population.yaml").keyed_version(WRONG)
    kept = [p for p in (root / ".dagster").rglob("*.db") if keyed.encode() in p.read_bytes()]
    assert kept
    assert cli.main(["lineage", "--root", str(root), plan.release_id]) == 0
    out = capsys.readouterr().out
    assert plan.data_version in out and keyed in out


def test_the_log_has_the_same_lines_whatever_the_number_of_people() -> None:
    """26 % is one batch of so many: the scale is fixed."""
    logs = []
    for batches in (1, 3, 4, 7, 1000):
        log: list[str] = []
        progress = ComputeResource().progress("pairs", log.append)
        for done in range(batches):
            progress((done + 1) / batches, f"{done + 1} of {batches}")
        logs.append(log)
    assert logs[0] == ["pairs: 25 %", "pairs: 50 %", "pairs: 75 %", "pairs: 100 %"]
    assert all(log == logs[0] for log in logs)


def test_the_log_of_private_stages_is_the_same_for_other_people(root: Path, tmp_path: Path) -> None:
    """As Dagster keeps it: 1,427 people and 60."""
    few = tmp_path / "few"
    shutil.copytree(root / "data", few / "data")
    shutil.copy(root / "population.yaml", few)
    people = pq.read_table(few / "data" / "train.parquet")
    pq.write_table(people.slice(0, 60), few / "data" / "train.parquet")
    text = (few / "population.yaml").read_text()
    (few / "population.yaml").write_text(text.partition("anchor:")[0])
    stages = (
        "dataset", "privacy_plan", "public_images", "pairs", "minimum_people", "table_model",
        "subsample",
    )  # fmt: skip
    with captured(tmp_path / "printed.txt"):
        assert materialise(few, assets=stages, settings={"minimum_people": 0}).success
    kept = [
        {line: logged(place).count(line) for line in set(logged(place))} for place in (root, few)
    ]
    for stage in ("pairs", "table_model", "subsample"):
        lines = [f"{stage}: {part} %" for part in (25, 50, 75, 100)]
        assert [kept[1].get(line) for line in lines] == [1, 1, 1, 1]
        assert set(lines) <= kept[0].keys()
        for told in kept:
            assert {line for line in told if line.startswith(f"{stage}:")} == set(lines)


def logged(root: Path) -> list[str]:
    """What the stages wrote into Dagster's log."""
    lines = []
    for file in (root / ".dagster" / "history" / "runs").glob("*-*.db"):
        with contextlib.closing(sqlite3.connect(file)) as store:
            for (event,) in store.execute("SELECT event FROM event_logs"):
                lines.append(json.loads(event)["user_message"])
    return lines
