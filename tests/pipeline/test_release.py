"""A stage runs once, is paid before it runs, and is verified ever after."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace

import pytest

from dagster_project.ledger import (
    ArtifactAltered,
    ConformanceError,
    Ledger,
    LedgerUnavailable,
    StageSpent,
    UnknownRelease,
    WrongState,
    file_sha256,
)
from dagster_project.pipeline import subsample
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.mechanism import MechanismMismatch
from dagster_project.privacy.plan import canonical_json
from dagster_project.table.measurements import TableMeasurement


def declared(release, stage):
    return {m.name: dict(m.declared) for m in release.plan.mechanisms if m.stage == stage}


def once(release, run, *, stage="mean_pairs", executed=..., parents=()):
    return release.once(
        stage,
        run,
        executed=declared(release, stage) if executed is ... else executed,
        files=("made.bin",),
        parents=parents,
    )


def writes(release, text="1"):
    calls = []

    def run():
        calls.append(release.ledger.release(release.id).stages["mean_pairs"].status)
        (release.models / "made.bin").write_text(text)

    return run, calls


def test_a_stage_is_charged_before_it_runs_and_runs_once(opened):
    run, calls = writes(opened)
    assert once(opened, run) is True
    assert calls == ["STARTED"]  # durable before the first line of it
    assert once(opened, run) is False and len(calls) == 1
    made = opened.ledger.committed(opened.id, "mean_pairs")
    assert set(made.files) == {"made.bin"}


def test_nothing_runs_before_the_reservation_is_opened(reserved):
    run, calls = writes(reserved)
    with pytest.raises(WrongState):
        once(reserved, run)
    assert not calls


def test_what_would_run_must_be_what_was_planned(opened):
    run, calls = writes(opened)
    other = declared(opened, "mean_pairs")
    other["mean_pairs"]["noise_multiplier"] *= 0.999
    for executed in (other, {}):
        with pytest.raises(ConformanceError):
            once(opened, run, executed=executed)
    assert not calls


def test_a_stage_that_died_is_spent(opened):
    def dies():
        raise KeyboardInterrupt

    run, calls = writes(opened)
    with pytest.raises(KeyboardInterrupt):
        once(opened, dies)
    with pytest.raises(StageSpent):
        once(opened, run)
    assert not calls


def unreachable(*_arguments, **_options):
    raise LedgerUnavailable("the ledger cannot be used now")


def dies_before_its_commit(release, monkeypatch, run, **options):
    """The process ends between `run` and the ledger's entry."""
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "commit", unreachable)
        with pytest.raises(LedgerUnavailable):
            once(release, run, **options)
    return release.private / "finished" / "mean_pairs.json"


def test_a_whole_output_is_committed_by_the_next_run(opened, monkeypatch):
    run, calls = writes(opened)
    dies_before_its_commit(opened, monkeypatch, run)
    assert opened.ledger.release(opened.id).stages["mean_pairs"].status == "STARTED"
    assert once(opened, run) is False and len(calls) == 1
    made = opened.ledger.committed(opened.id, "mean_pairs")
    assert made.files == {"made.bin": file_sha256(opened.models / "made.bin")}
    assert opened.ledger.release(opened.id).stages["mean_pairs"].starts == 1
    opened.ledger.verify()


def test_a_ledger_out_of_reach_during_the_run_costs_nothing(opened, monkeypatch):
    """From the start of a run to its record, only the private folder is needed."""
    run, calls = writes(opened)

    def loses_the_ledger():
        run()
        for name in ("output_key", "commit", "committed"):
            patch.setattr(Ledger, name, unreachable)

    with monkeypatch.context() as patch, pytest.raises(LedgerUnavailable):
        once(opened, loses_the_ledger)
    assert once(opened, run) is False and len(calls) == 1


def other_file(release, record):
    (release.models / "made.bin").write_text("2")


def no_file(release, record):
    (release.models / "made.bin").unlink()


def linked_file(release, record):
    there = release.models / "made.bin"
    there.rename(release.models / "elsewhere")
    there.symlink_to("elsewhere")


def no_record(release, record):
    record.unlink()


def torn_record(release, record):
    record.write_bytes(record.read_bytes()[:-9])


def rewritten_record(release, record):
    """Another output, with its true hash: only the seal tells."""
    other_file(release, record)
    content = json.loads(record.read_text())
    content["files"] = {"made.bin": file_sha256(release.models / "made.bin")}
    record.write_text(json.dumps(content))


def sealed_by_another_key(release, record):
    content = json.loads(record.read_text())
    text = canonical_json([content["files"], []])
    content["seal"] = hmac.new(b"k" * 32, text.encode(), "sha256").hexdigest()
    record.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        other_file, no_file, linked_file, no_record, torn_record, rewritten_record,
        sealed_by_another_key,
    ],
)  # fmt: skip
def test_nothing_but_the_one_output_is_ever_committed(opened, monkeypatch, change):
    run, calls = writes(opened)
    record = dies_before_its_commit(opened, monkeypatch, run)
    change(opened, record)
    with pytest.raises(StageSpent, match="budget of mean_pairs is spent in full") as refused:
        once(opened, run)
    assert "new release under another name" in str(refused.value)
    assert len(calls) == 1 and opened.ledger.committed(opened.id, "mean_pairs") is None


def test_a_record_is_of_one_stage_and_its_parents(opened, monkeypatch):
    run, calls = writes(opened)
    record = dies_before_its_commit(opened, monkeypatch, run)
    record.with_name("table_model.json").write_bytes(record.read_bytes())
    assert once(opened, run, stage="table_model") is True and len(calls) == 2
    (opened.models / "made.bin").write_text("1")
    with pytest.raises(StageSpent):
        once(opened, run, parents=("table_model",))


def test_training_that_was_started_again_forgets_what_an_earlier_start_had_made(
    opened, monkeypatch
):
    """Nobody chooses between the outputs of two starts: the last one counts."""
    for stage, files in (("table_model", ("t.bin",)), ("mean_pairs", ("m.bin",))):
        (opened.models / files[0]).write_text("x")
        opened.once(stage, lambda: None, executed=declared(opened, stage), files=files, parents=())

    def trains(text):
        def run():
            steps = opened.declared("image_model")["steps"]
            known = opened.ledger.release(opened.id).stages["image_model"]
            if known.next_step < steps:
                opened.ledger.authorise_steps(opened.id, "image_model", 0, steps - 1)
            (opened.models / "made.bin").write_text(text)

        return run

    dies_before_its_commit(opened, monkeypatch, trains("first"), stage="image_model")
    opened.ledger.begin(opened.id, "image_model", declared(opened, "image_model"))
    assert once(opened, trains("second"), stage="image_model") is True
    assert (opened.models / "made.bin").read_text() == "second"


def test_a_stage_that_was_begun_takes_no_other_sample(opened, monkeypatch):
    subsample.draw(opened)
    sample = opened.private / "subsample.npy"

    def run():
        subsample.discard(opened)
        (opened.models / "made.bin").write_text("1")

    dies_before_its_commit(opened, monkeypatch, run)
    subsample.draw(opened)
    assert not sample.exists()


def test_a_stage_that_made_no_file_is_not_committed(opened):
    with pytest.raises(OSError):
        once(opened, lambda: None)
    assert opened.ledger.committed(opened.id, "mean_pairs") is None


def test_altered_files_are_refused_by_the_stage_and_by_what_follows(opened):
    run, calls = writes(opened)
    once(opened, run)
    (opened.models / "made.bin").write_text("2")
    with pytest.raises(ArtifactAltered):
        once(opened, run)
    with pytest.raises(ArtifactAltered):
        once(opened, run, stage="after", executed=None, parents=("mean_pairs",))
    assert len(calls) == 1


def test_post_processing_needs_a_committed_parent(opened):
    run, calls = writes(opened)
    with pytest.raises(WrongState):
        once(opened, run, stage="after", executed=None, parents=("mean_pairs",))
    assert not calls


def load(release, release_id=None):
    return Release.load(
        release_id or release.id, root=release.root, ledger=release.ledger, compute=Compute()
    )


def test_a_release_is_loaded_as_the_ledger_holds_it(reserved):
    found = load(reserved)
    assert found.plan == reserved.plan and found.schema == reserved.schema
    assert found.recipe.dp_sgd.steps == 4
    with pytest.raises(UnknownRelease):
        load(reserved, "other")


def test_an_altered_or_missing_schema_is_refused(reserved):
    file = reserved.models / "schema.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"schema": content["schema"] | {"n_public": 3}}))
    with pytest.raises(WrongState, match="altered"):
        load(reserved)
    file.write_text(json.dumps(content["schema"]))  # as version 0.1 wrote it
    with pytest.raises(WrongState, match="format 2"):
        load(reserved)
    file.unlink()
    with pytest.raises(WrongState):
        load(reserved)


def test_the_plan_itself_stays_with_the_ledger(reserved):
    """It names the version of the data, which may be private."""
    shown = "".join(p.read_text() for p in reserved.models.rglob("*") if p.is_file())
    assert reserved.plan.data_version not in shown


def test_a_plan_that_declares_other_parameters_than_it_charges_is_refused(reserved):
    entries = [
        replace(m, event=replace(m.event, count=m.event.count + 1))
        if m.name == TableMeasurement.name
        else m
        for m in reserved.plan.mechanisms
    ]
    odd = replace(reserved, plan=replace(reserved.plan, mechanisms=tuple(entries)))
    reserved.mechanism(TableMeasurement)
    with pytest.raises(MechanismMismatch, match="charges"):
        odd.mechanism(TableMeasurement)
