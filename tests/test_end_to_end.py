"""The whole graph on 300 drawn people, in this process: what it makes, spends and never shows."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import math
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from dagster_project.audits.toys import N_PUBLIC, SETTINGS
from dagster_project.cli import main as cli
from dagster_project.image.released_means import MeanPairs
from dagster_project.ledger import Ledger
from dagster_project.ledger.population import Population
from dagster_project.orchestration import checks
from dagster_project.pipeline import image_model, table_model
from dagster_project.privacy.events import PoissonSampledGaussian
from dagster_project.release import manifest, verification
from tests.toy_project import (
    ODD_NUMBER,
    PAIRS,
    PEOPLE,
    POPULATION,
    SEED,
    TOKEN,
    captured,
    files_below,
    ledger_of,
    materialise,
    settings_arguments,
    write_project,
)

STAGES = ("table_model", "mean_pairs", "pretrained_checkpoint", "image_model", "detail_model")
TO_TABLE = (
    "dataset", "privacy_plan", "public_images", "pairs", "minimum_people", "subsample",
    "table_model",
)  # fmt: skip
TO_MEAN_PAIRS = (*TO_TABLE, "mean_pairs")


def spending(root: Path) -> dict[str, Any]:
    """What the ledger knows of money and of draws."""
    with ledger_of(root) as ledger:
        kinds = [entry.kind for entry in ledger.entries() if entry.kind != "ATTACHED"]
        return {"kinds": kinds, "spent": [cohort.spent for cohort in ledger.cohorts()]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project") / "with a space")


@pytest.fixture(scope="module")
def printed(root: Path) -> Path:
    return root / "printed.txt"


@pytest.fixture(scope="module")
def result(root: Path, printed: Path) -> dg.ExecuteInProcessResult:
    """The first materialisation of everything."""
    with captured(printed):
        return materialise(root)


@pytest.fixture(scope="module")
def release_id(result: dg.ExecuteInProcessResult) -> str:
    assert result.success
    return result.output_for_node("synthetic_release")


def run_command(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("DAGSTER_HOME", str(root / ".dagster"))
        code = cli.main(arguments)
    return code, out.getvalue(), err.getvalue()


# What a run makes ------------------------------------------------------------------------------


def test_every_asset_and_check_passes(result, root):
    assert result.success, sorted((root / "private").glob("errors/*.txt"))
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert made == {*TO_MEAN_PAIRS, *STAGES, "semantic_query", "public_checkpoint",
                    "synthetic_release", "fidelity_report", "budget_lineage"}  # fmt: skip
    passed = {c.check_name: c.passed for c in result.get_asset_check_evaluations()}
    assert passed == {"files_match_schema": True, "within_budget": True, "records_fit_schema": True}


def test_ledger_says_committed_and_verifies(root, release_id):
    with ledger_of(root) as ledger:
        release = ledger.release(release_id)
        assert release.status == "COMMITTED" and release.approved_by == "a tester"
        ledger.verify(reprice=True)
        assert {n for n, s in release.stages.items() if s.artifacts} == {
            "minimum_people",
            *STAGES,
            f"synthetic_release.n{PAIRS}.seed{SEED}",
        }
        assert release.stages["image_model"].steps == 4
        facts = {k for fact in release.facts for k in fact}
        assert {"mlflow_run", "dagster_run", "lock_hash"} <= facts
        # Post-processing costs nothing: the plan's charge is all there is.
        assert [b.spent for b in ledger.cohorts()] == list(release.charges.values())


def test_private_data_moves_the_anchor_of_the_population(root, release_id):
    anchor = Population.load(root / "population.yaml").anchor
    assert anchor is not None
    with ledger_of(root) as ledger:
        assert 0 < anchor.entries <= len(ledger.entries())


def test_manifest_and_ledger_state_one_epsilon(root, release_id):
    found = verification.verify(root / "releases" / release_id)
    with ledger_of(root) as ledger:
        plan = ledger.release(release_id).plan
    assert found.epsilon == pytest.approx(plan["composed_epsilon"], abs=1e-6)
    assert found.delta == plan["target_delta"] == 1e-4
    assert 4.9 < found.epsilon <= 5.0
    report = json.loads((root / "private" / release_id / "fidelity_report.json").read_text())
    assert report["epsilon"] == plan["composed_epsilon"]


def bundle_frame(folder: Path) -> pd.DataFrame:
    files = sorted((folder / "data").glob("*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def test_bundle_holds_pairs_of_the_public_domain(root, release_id):
    frame = bundle_frame(root / "releases" / release_id)
    assert list(frame.columns) == ["image", "shape", "bright", "weight"] and len(frame) == PAIRS
    assert set(frame["shape"]) <= {"bar", "disc", "cross"} and set(frame["bright"]) <= {"no", "yes"}
    weight = frame["weight"].dropna()
    assert weight.between(0, 4).all()
    assert all(cell["bytes"].startswith(b"\x89PNG") for cell in frame["image"])
    assert len({cell["bytes"] for cell in frame["image"]}) > PAIRS / 2
    assert list((root / "releases" / release_id / "previews").glob("*.png"))


def test_mlflow_has_one_linked_run_without_the_exact_number_of_people(root, result, release_id):
    with sqlite3.connect(root / "mlflow.db") as store:
        tags = dict(store.execute("select key, value from tags where key not like 'mlflow.%'"))
        parameters = dict(store.execute("select key, value from params"))
        metrics = {k for (k,) in store.execute("select key from metrics")}
        runs = store.execute("select count(*) from runs").fetchone()
    assert runs == (1,)
    assert tags["release_id"] == release_id and tags["dagster.run_id"] == result.run_id
    assert parameters["n_public"] == str(N_PUBLIC)
    assert "event.image_model.noise_multiplier" in parameters
    counts = json.loads((root / "private" / release_id / "counts.json").read_text())
    assert not {str(PEOPLE), str(counts["train"])} & set(parameters.values())
    assert metrics == {"epsilon", "delta"}  # figures of the report are private
    assert "plan_hash" not in tags


def test_mlflow_names_the_data_and_shows_only_what_is_published(root, release_id):
    with sqlite3.connect(root / "mlflow.db") as store:
        data = store.execute("select name, digest, dataset_profile from datasets").fetchall()
    with ledger_of(root) as ledger:
        version = ledger.release(release_id).plan["data_version"]
    keyed = Population.load(root / "population.yaml").keyed_version(version)
    assert data == [("toys", keyed[:32], None)]
    bundle = root / "releases" / release_id
    (shown,) = (root / "mlartifacts").rglob("previews")
    assert {p.name: p.read_bytes() for p in shown.iterdir()} == {
        p.name: p.read_bytes() for p in (bundle / "previews").iterdir()
    }


def test_the_registered_model_draws_the_pairs_of_its_release(root, release_id, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model("models:/dp-tabimage/1")
    pairs = model.predict(PAIRS)
    assert list(pairs.columns) == ["image", "shape", "bright", "weight"]
    assert all(image.startswith(b"\x89PNG") for image in pairs["image"])
    discs = model.predict({"n": 4, "seed": SEED, "where": "shape == 'disc'"})
    assert set(discs["shape"]) == {"disc"} and len(pairs) == PAIRS


def test_sample_of_people_is_destroyed_once_it_served(root, release_id):
    private = root / "private" / release_id
    assert not (private / "subsample.npy").exists()
    assert not (private / "image_model").exists()  # checkpoints of private training


# What is never shown ---------------------------------------------------------------------------


def public_files(root: Path) -> list[Path]:
    folders = {root / "private", root / "data"}
    return [p for p in root.rglob("*") if p.is_file() and not folders & set(p.parents)]


def assert_no_secret_outside(root: Path) -> None:
    assert TOKEN in (root / "data" / "records.csv").read_text()
    secrets = [TOKEN.encode(), ODD_NUMBER.split(".")[0].encode()]
    files = public_files(root)
    for part in (".dagster", "mlflow.db", "mlartifacts", "releases", "models", "ledger"):
        assert any(part in str(file.relative_to(root)) for file in files), part
    shown = [file for file in files for s in secrets if s in file.read_bytes()]
    assert not shown


def test_no_secret_of_a_record_is_seen_outside_the_private_zone(root, printed, release_id):
    assert printed.stat().st_size > 0
    assert_no_secret_outside(root)


def test_no_file_is_a_pickle(root, release_id):
    for file in root.rglob("*"):
        if file.is_file():
            start = file.read_bytes()[:2]
            assert file.suffix not in (".pkl", ".pickle", ".pt", ".pth"), file
            assert start not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), file
            if start == b"PK" and file.suffix == ".npz":
                with np.load(file, allow_pickle=False) as arrays:
                    assert all(arrays[name].dtype != object for name in arrays.files)


# A second time ---------------------------------------------------------------------------------


def release_arguments(root: Path, **more: Any) -> list[str]:
    options = {"epsilon": 5.0, "delta": 1e-4, "name": "first", "n": PAIRS, "seed": SEED, **more}
    flags = [a for k, v in options.items() for a in (f"--{k}", str(v))]
    return ["release", "--root", str(root), "--data", str(root / "data"), "--json",
            "--extractor", "pixels", *flags, *settings_arguments()]  # fmt: skip


def test_materialising_again_spends_nothing_and_draws_nothing(root, release_id):
    """Through the command, which runs the same job."""
    before, bundle = spending(root), (root / "releases" / release_id)
    files = {p: p.read_bytes() for p in bundle.rglob("*") if p.is_file()}
    models = {p: p.read_bytes() for p in (root / "models").rglob("*") if p.is_file()}
    code, out, err = run_command(root, *release_arguments(root))
    assert code == 0, err
    found = json.loads(out)
    assert found["release"] == release_id and found["bundle"] == str(bundle)
    assert found["epsilon"] == pytest.approx(verification.verify(bundle).epsilon)
    assert Path(found["report"]).is_file() and Path(found["models"]).is_dir()
    assert spending(root) == before
    assert {p: p.read_bytes() for p in files} == files
    assert {p: p.read_bytes() for p in models} == models
    assert_no_secret_outside(root)


def test_sampling_is_bit_identical_for_one_seed_and_free(root, release_id, tmp_path):
    spent = spending(root)["spent"]
    for folder, seed in (("a", SEED), ("b", SEED + 1)):
        code, out, err = run_command(
            root, "sample", "--root", str(root), release_id, "--json",
            "--n", str(PAIRS), "--seed", str(seed), "--out", str(tmp_path / folder),
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["release"] == release_id
    first, bundle = tmp_path / "a", root / "releases" / release_id
    data = [p.relative_to(bundle) for p in sorted((bundle / "data").iterdir())]
    assert len(data) == 3
    assert all((first / p).read_bytes() == (bundle / p).read_bytes() for p in data)
    assert manifest.read(first) == manifest.read(bundle)
    assert all((tmp_path / "b" / p).read_bytes() != (bundle / p).read_bytes() for p in data)
    verification.verify(tmp_path / "b")
    assert spending(root)["spent"] == spent


def test_the_page_about_python_is_right(root, release_id, monkeypatch):
    """Its release is the one that was made, so that the page costs nothing."""
    before = spending(root)["spent"]
    monkeypatch.chdir(root)
    page = Path(__file__).parents[1] / "docs" / "how-to" / "python.md"
    failed, ran = doctest.testfile(str(page), module_relative=False, globs={"settings": SETTINGS})
    assert ran > 10 and not failed
    assert spending(root)["spent"] == before


def test_a_condition_is_drawn_free_and_recorded(root, release_id, tmp_path):
    spent, folder = spending(root)["spent"], tmp_path / "some"
    place = ["sample", "--root", str(root), release_id, "-n", "20", "--out", str(folder)]
    code, out, err = run_command(root, *place, "--where", "shape == 'disc' and weight > 2.5")
    assert code == 0, err
    assert "each meets shape == 'disc' and weight > 2.5; the table model expects this of" in out
    frame = bundle_frame(folder)
    assert len(frame) == 20 and (frame["shape"] == "disc").all() and (frame["weight"] > 2.5).all()
    stated = manifest.read(folder)["sampling"]
    assert stated["where"] == "shape == 'disc' and weight > 2.5" and 0 < stated["share"] < 1
    assert "`shape == 'disc' and weight > 2.5` holds" in (folder / "README.md").read_text()
    assert spending(root)["spent"] == spent
    code, out, err = run_command(root, "verify", "--root", str(root), str(folder))
    assert code == 0 and "the ledger agrees" in out, err
    code, _, err = run_command(root, *place, "--where", "shape == 'ring'")
    assert code == 2 and "its categories are bar, disc, cross" in err and one_sentence(err)


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (["ledger", "show", "--json"], {"cohorts", "timeline", "head"}),
        (["lineage", "RELEASE", "--json"], {"target", "file", "ledger", "releases"}),
        (["lineage", "RELEASE", "--json", "--public"], {"target", "file", "ledger", "releases"}),
        (["lineage", "BUNDLE", "--json"], {"target", "file", "ledger", "releases"}),
        (["lineage", "FILE", "--json"], {"target", "file", "ledger", "releases"}),
    ],
)
def test_answers_to_an_auditor_parse(root, release_id, arguments, keys):
    bundle = root / "releases" / release_id
    file = next((bundle / "data").iterdir())
    names = {"RELEASE": release_id, "BUNDLE": str(bundle), "FILE": str(file)}
    command, *rest = (names.get(a, a) for a in arguments)
    code, out, err = run_command(root, command, "--root", str(root), *rest)
    assert code == 0, err
    assert set(json.loads(out)) >= keys
    assert release_id in out and TOKEN not in out


def test_verdicts_of_the_auditor(root, release_id, tmp_path):
    bundle = root / "releases" / release_id
    code, out, _ = run_command(root, "verify", str(bundle))
    assert code == 0 and out.startswith(f"{release_id}: ") and "true positives" in out
    assert "the ledger agrees" in out
    code, out, _ = run_command(root, "ledger", "--root", str(root), "verify")
    assert code == 0 and "verified" in out
    code, out, _ = run_command(root, "ledger", "--root", str(root))
    assert code == 0 and "COMMITTED" in out
    altered = shutil.copytree(bundle, tmp_path / "altered")
    with next((altered / "data").iterdir()).open("ab") as file:
        file.write(b"x")
    code, _, err = run_command(root, "verify", str(altered))
    assert code == 2 and one_sentence(err)
    code, _, err = run_command(
        root, "lineage", "--root", str(root), str(next((altered / "data").iterdir()))
    )
    assert code == 2 and one_sentence(err)


def test_plan_and_check_parse(root, release_id):
    before = spending(root)
    place = ["--root", str(root), "--data", str(root / "data")]
    code, out, err = run_command(
        root, "plan", *place, "--epsilon", "1", "--delta", "1e-4", "--json", *settings_arguments()
    )
    assert code == 0, err
    solved = json.loads(out)
    assert solved["plan"]["composed_epsilon"] <= 1 and solved["price"]["fits"] is True
    assert 0.01 < solved["true_positives_at_1_percent_false_positives"] < 0.01 * math.e + 1e-4
    code, out, _ = run_command(root, "check", *place, "--json")
    assert code == 0  # what the policies settle stops nothing
    assert json.loads(out)["rows"]["found"] == PEOPLE
    assert spending(root) == before


def one_sentence(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) == 1 and lines[0].startswith("dptabimage: ") and "Traceback" not in text


# Noise, failures and crashes, in a second project with a ledger of its own ----------------------


@pytest.fixture(scope="module")
def second(root: Path, release_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same records, population and public seed; another ledger."""
    place = tmp_path_factory.mktemp("second")
    shutil.copytree(root / "data", place / "data")
    (place / "population.yaml").write_text(POPULATION)
    with captured(place / "printed.txt"):
        assert materialise(place, assets=TO_MEAN_PAIRS, name="again").success
    return place


def newest(root: Path) -> str:
    with ledger_of(root) as ledger:
        return list(ledger.releases())[-1]


def test_two_ledgers_and_one_public_seed_draw_different_noise(root, release_id, second):
    one = MeanPairs.load(root / "models" / release_id / "mean_pairs")
    two = MeanPairs.load(second / "models" / newest(second) / "mean_pairs")
    assert one.feature_map == two.feature_map  # what is public is the same
    kept = (one.shares > 0) & (two.shares > 0)
    assert kept.any()
    assert not np.isclose(one.means[kept], two.means[kept]).mean() > 0.01
    tables = [root / "models" / release_id, second / "models" / newest(second)]
    first, other = ((t / "table_model" / "measurements.npz").read_bytes() for t in tables)
    assert first != other


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    return [e.step_failure_data.error.message for e in result.all_events if e.is_step_failure]


def test_training_resumes_after_a_crash_within_what_was_paid(second, monkeypatch):
    """Killed between the first checkpoint and the end of the second range, and before the commit
    of what the resumed run had made."""
    release_id = newest(second)
    original = image_model.microbatches
    calls = []

    def dies(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:  # step 3 of the second range of two
            raise RuntimeError(f"{TOKEN} in a tensor")
        return original(*arguments, **options)

    monkeypatch.setattr(image_model, "microbatches", dies)
    with captured(second / "printed.txt"):
        to_model = ("semantic_query", "public_checkpoint", "pretrained_checkpoint", "image_model")
        crashed = materialise(second, assets=to_model, name="again")
    assert not crashed.success
    (message,) = failures(crashed)
    assert TOKEN not in message and "private/errors/image_model-" in message
    with ledger_of(second) as ledger:
        stage = ledger.release(release_id).stages["image_model"]
        assert (stage.status, stage.steps) == ("STARTED", 4)
    monkeypatch.setattr(image_model, "microbatches", original)
    commit = Ledger.commit
    monkeypatch.setattr(Ledger, "commit", dies)  # at the very last moment
    calls[:] = [1] * 3
    with captured(second / "printed.txt"):
        assert not materialise(second, assets=("image_model",), name="again").success
    monkeypatch.setattr(Ledger, "commit", commit)
    monkeypatch.setattr(image_model, "microbatches", dies)  # nothing is left to train
    calls[:] = [1] * 3
    with captured(second / "printed.txt"):
        resumed = materialise(second, assets=("image_model",), name="again")
    assert resumed.success and len(calls) == 3
    with ledger_of(second) as ledger:
        release = ledger.release(release_id)
        stage = release.stages["image_model"]
        paid = next(
            m["event"]["count"] for m in release.plan["mechanisms"] if m["name"] == "image_model"
        )
        assert release.plan["mechanisms"][-1]["event"]["type"] == PoissonSampledGaussian.type
        assert (stage.status, release.status) == ("COMMITTED", "COMMITTED")
        assert stage.steps == 6 <= paid  # four, and the second range again
    assert_no_secret_outside_of(second)


def test_a_failing_stage_shows_a_code_and_is_never_drawn_again(second, monkeypatch):
    calls = []

    def dies(*_arguments):
        calls.append(1)
        raise ValueError(f"a record holds {TOKEN} and {ODD_NUMBER}")

    monkeypatch.setattr(table_model, "_fit", dies)
    assets = TO_TABLE
    with captured(second / "printed.txt"):
        crashed = materialise(second, assets=assets, name="crashed", epsilon=1.0)
    (message,) = failures(crashed)
    assert "table_model failed with error table_model-" in message and "\n" not in message.strip()
    assert_no_secret_outside_of(second)
    kept = [f for f in (second / "private" / "errors").iterdir() if TOKEN in f.read_text()]
    assert any(f.name.startswith("table_model-") for f in kept)  # the steward finds the cause

    monkeypatch.undo()
    called = []
    monkeypatch.setattr(table_model, "_fit", lambda *_: called.append(1))
    before = spending(second)
    with captured(second / "printed.txt"):
        again = materialise(second, assets=("table_model",), name="crashed", epsilon=1.0)
    (message,) = failures(again)
    assert "cannot be drawn again" in message and "private/errors" not in message
    assert len(calls) == 1 and not called
    assert spending(second) == before


def test_a_failing_check_of_records_shows_a_code_and_stops_nothing(second, monkeypatch):
    def dies(*_arguments):
        raise ValueError(f"a record holds {TOKEN} and {ODD_NUMBER}")

    monkeypatch.setattr(checks, "_fit", dies)
    with captured(second / "printed.txt"):
        result = materialise(second, assets=("pairs",))
    (check,) = result.get_asset_check_evaluations()
    assert result.success and check.check_name == "records_fit_schema" and not check.passed
    assert "private/errors/records_fit_schema-" in check.description
    assert_no_secret_outside_of(second)
    (kept,) = (second / "private" / "errors").glob("records_fit_schema-*")
    assert TOKEN in kept.read_text()


def assert_no_secret_outside_of(second: Path) -> None:
    secrets = [TOKEN.encode(), ODD_NUMBER.split(".")[0].encode()]
    shown = [f for f in public_files(second) for s in secrets if s in f.read_bytes()]
    assert not shown


def test_files_lie_in_their_zones(root, release_id):
    tops = {Path(name).parts[0] for name in files_below(root)}
    assert tops == {
        "data", "population.yaml", "ledger", "models", "private", "releases", "mlflow.db",
        "mlflow.lock", "mlartifacts", "printed.txt",
    }  # fmt: skip
