"""A stage runs once, is paid before it runs, and is verified ever after."""

from __future__ import annotations

import json

import pytest

from dagster_project.privacy.ledger import (
    ArtifactAltered,
    ConformanceError,
    StageSpent,
    UnknownRelease,
    WrongState,
)
from dagster_project.stages.release import Compute, Release


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
    file.write_text(json.dumps(content | {"n_public": 3}))
    with pytest.raises(WrongState, match="altered"):
        load(reserved)
    file.unlink()
    with pytest.raises(WrongState):
        load(reserved)


def test_the_plan_itself_stays_with_the_ledger(reserved):
    """It names the version of the data, which may be private."""
    shown = "".join(p.read_text() for p in reserved.models.rglob("*") if p.is_file())
    assert reserved.plan.data_version not in shown
