"""What the ledger grants, refuses and remembers."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from dagster_project.ledger import (
    ArtifactAltered,
    BudgetExceeded,
    ConformanceError,
    DeltaTooLarge,
    Ledger,
    PlanRefused,
    ReleaseExists,
    StageCommitted,
    StageSpent,
    StepsExhausted,
    UnknownRelease,
    WrongState,
    file_sha256,
    gdp_filter,
)
from dagster_project.ledger import lineage as chains
from dagster_project.ledger.gdp_filter import percent
from tests.ledger.toys import SHA, executed, gaussian, plan, population, training


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(population(tmp_path))


def reserve(ledger: Ledger, a_plan=None, **options):
    options = {"approved_by": "steward", "schema_public": False} | options
    return ledger.reserve(a_plan or plan(), **options)


def opened(ledger: Ledger, a_plan=None):
    a_plan = a_plan or plan()
    reserve(ledger, a_plan)
    ledger.open_reservation(a_plan.release_id)
    return a_plan


def unchanged_by(ledger: Ledger, error: type[Exception], call, *args, **kwargs) -> str:
    """The message of a refusal that wrote nothing."""
    before, cohorts = ledger.anchor(), ledger.cohorts()
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert (ledger.anchor(), ledger.cohorts()) == (before, cohorts)
    return str(caught.value)


def test_at_least_thirteen_releases_of_epsilon_1_fit_under_5(ledger: Ledger) -> None:
    granted = 0
    with pytest.raises(BudgetExceeded):
        while True:
            reserve(ledger, plan(f"release-{granted}"))
            granted += 1
    assert granted >= 13
    assert ledger.cohorts()[0].share <= 1 and ledger.cohorts()[0].releases_left == 0


def test_price_writes_nothing_and_agrees_with_what_reserve_charges(ledger: Ledger) -> None:
    before = ledger.anchor()
    price = ledger.price(plan())
    assert ledger.anchor() == before
    assert price.fits and price.spent == 0 and price.share_before == 0
    assert reserve(ledger).charges == {"founding": price.cost}
    again = ledger.price(plan("second"))
    assert (again.spent, again.remaining) == (price.cost, price.cap - price.cost)
    assert again.share_before == price.share_after == price.cost / price.cap
    assert not ledger.price(plan("huge", gaussian(0.1))).fits


def test_one_unit_tells_the_budget_and_what_would_fit(ledger: Ledger) -> None:
    """Share of the lifetime budget used, and releases at epsilon 1: here about 5 / 1 squared."""
    first = ledger.price(plan())
    reserve(ledger)
    account = ledger.cohorts()[0]
    assert account.share == first.share_after and account.releases_left == first.releases_left
    words = f"{percent(account.share)} of the lifetime budget used; {account.releases_left} more"
    assert str(account).startswith(words) and words[:20] in chains.render_text(
        chains.trace(ledger, "first")
    )
    assert chains.timeline(ledger)[-1]["share"] == account.share
    large = ledger.price(plan("large", gaussian(0.95), target_epsilon=5.0, composed_epsilon=4.99))
    assert not large.fits and f"about epsilon {large.epsilon_that_fits:g} would fit" in str(large)
    smaller = sigma_of(large.epsilon_that_fits)
    assert ledger.price(plan("smaller", gaussian(1.01 * smaller))).fits
    assert not ledger.price(plan("larger", gaussian(0.97 * smaller))).fits


def sigma_of(epsilon: float) -> float:
    """The noise multiplier of one Gaussian mechanism of this epsilon at the toy's delta."""
    return 1 / math.sqrt(gdp_filter.cap(epsilon, target_delta=1e-6))


def test_same_plan_is_charged_once_and_its_name_is_taken(ledger: Ledger) -> None:
    first = reserve(ledger)
    head = ledger.anchor()
    assert reserve(ledger) == first
    assert ledger.anchor() == head
    unchanged_by(ledger, ReleaseExists, reserve, ledger, plan("first", gaussian(5.0)))


def test_void_gives_back_everything_but_only_before_opening(ledger: Ledger) -> None:
    empty = ledger.cohorts()
    reserve(ledger)
    ledger.void("first")
    assert ledger.cohorts() == empty
    assert ledger.release("first").status == "VOID"
    for call in (ledger.void, ledger.open_reservation):
        unchanged_by(ledger, WrongState, call, "first")
    unchanged_by(ledger, WrongState, reserve, ledger)
    opened(ledger, plan("second"))
    unchanged_by(ledger, WrongState, ledger.void, "second")


def test_nothing_runs_before_opening(ledger: Ledger) -> None:
    a_plan = plan()
    reserve(ledger, a_plan)
    run = executed(a_plan, "table_model")
    unchanged_by(ledger, WrongState, ledger.begin, "first", "table_model", run)
    unchanged_by(ledger, WrongState, ledger.commit, "first", "table_model", {"a": SHA})
    unchanged_by(ledger, UnknownRelease, ledger.open_reservation, "other")


def test_opening_again_changes_nothing(ledger: Ledger) -> None:
    opened(ledger)
    head = ledger.anchor()
    assert ledger.open_reservation("first").status == "OPENED"
    assert ledger.anchor() == head


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"table_model.measurement": {"noise_multiplier": 4.1, "clip_norm": 1.0}},
        {"table_model.measurement": {"noise_multiplier": 4.2}},
        {"table_model.measurement": {"noise_multiplier": 4.2, "clip_norm": 1.0, "more": 1}},
        {"table_model.measurement": {"noise_multiplier": 4.2, "clip_norm": float("nan")}},
        {"other": {"noise_multiplier": 4.2, "clip_norm": 1.0}},
    ],
)
def test_what_runs_must_be_what_was_declared(ledger: Ledger, run) -> None:
    opened(ledger)
    unchanged_by(ledger, ConformanceError, ledger.begin, "first", "table_model", run)


def test_a_stage_outside_the_plan_cannot_begin(ledger: Ledger) -> None:
    opened(ledger)
    unchanged_by(ledger, ConformanceError, ledger.begin, "first", "mean_pairs", {})


def test_a_started_stage_is_spent_and_a_committed_one_final(ledger: Ledger) -> None:
    a_plan = opened(ledger)
    run = executed(a_plan, "table_model")
    ledger.begin("first", "table_model", run)
    message = unchanged_by(ledger, StageSpent, ledger.begin, "first", "table_model", run)
    assert "table_model.measurement is spent" in message and "another name" in message
    made = ledger.commit("first", "table_model", {"model.npz": SHA})
    head = ledger.anchor()
    assert ledger.commit("first", "table_model", {"model.npz": SHA}) == made
    assert ledger.anchor() == head
    assert ledger.committed("first", "table_model") == made
    assert ledger.release("first").status == "COMMITTED"
    unchanged_by(ledger, StageCommitted, ledger.commit, "first", "table_model", {"x": SHA})
    unchanged_by(ledger, StageCommitted, ledger.begin, "first", "table_model", run)


def test_post_processing_needs_committed_parents(ledger: Ledger) -> None:
    a_plan = opened(ledger)
    commit = ledger.commit
    unchanged_by(ledger, ConformanceError, commit, "first", "pairs", {"a": SHA})
    unchanged_by(ledger, WrongState, commit, "first", "pretraining", {"a": SHA}, ["table_model"])
    ledger.begin("first", "table_model", executed(a_plan, "table_model"))
    unchanged_by(ledger, WrongState, commit, "first", "pretraining", {"a": SHA}, ["table_model"])
    commit("first", "table_model", {"model.npz": SHA})
    spent = ledger.cohorts()
    made = commit("first", "pretraining", {"a": SHA}, ["table_model"])
    assert made.parents == ("table_model",) and ledger.cohorts() == spent
    second = opened(ledger, plan("second"))
    assert second.release_id == "second"
    commit("second", "pretraining", {"b": SHA}, ["first/table_model"])


@pytest.mark.parametrize("files", [{}, {"../a": SHA}, {"/a": SHA}, {"a": "short"}, {"": SHA}])
def test_commit_takes_relative_paths_and_whole_hashes(ledger: Ledger, files) -> None:
    a_plan = opened(ledger)
    ledger.begin("first", "table_model", executed(a_plan, "table_model"))
    unchanged_by(ledger, ConformanceError, ledger.commit, "first", "table_model", files)


def test_steps_are_counted_with_their_replays(ledger: Ledger) -> None:
    a_plan = opened(ledger, plan("first", training(steps=20, replay_steps=10)))
    run = executed(a_plan, "image_model")
    authorise, stage = ledger.authorise_steps, ("first", "image_model")
    unchanged_by(ledger, ConformanceError, authorise, *stage, 0, 9)  # not begun
    ledger.begin(*stage, run)
    unchanged_by(ledger, ConformanceError, authorise, *stage, 10, 19)  # a gap
    authorise(*stage, 0, 9)
    authorise(*stage, 10, 19)
    ledger.begin(*stage, run)  # after a crash
    authorise(*stage, 10, 14)
    unchanged_by(ledger, StepsExhausted, authorise, *stage, 10, 19)
    unchanged_by(ledger, ConformanceError, authorise, *stage, 15, 20)
    authorise(*stage, 15, 19)
    ledger.begin(*stage, run)
    unchanged_by(ledger, StepsExhausted, authorise, *stage, 19, 19)
    ledger.commit(*stage, {"weights.safetensors": SHA})


def test_a_stage_with_fewer_steps_than_declared_is_not_committed(ledger: Ledger) -> None:
    a_plan = opened(ledger, plan("first", training()))
    ledger.begin("first", "image_model", executed(a_plan, "image_model"))
    ledger.authorise_steps("first", "image_model", 0, 9)
    unchanged_by(ledger, ConformanceError, ledger.commit, "first", "image_model", {"w": SHA})


def test_disjoint_cohorts_pay_in_parallel(ledger: Ledger) -> None:
    ledger.add_cohort("newcomers", n_public=5000, approved_by="steward")
    old = reserve(ledger, plan("old", gaussian(cohort="founding")))
    new = reserve(ledger, plan("new", gaussian(cohort="newcomers")))
    assert (set(old.charges), set(new.charges)) == ({"founding"}, {"newcomers"})
    both = reserve(ledger, plan("both"))
    assert set(both.charges) == {"founding", "newcomers"}
    assert {cohort.spent for cohort in ledger.cohorts()} == {2 * old.charges["founding"]}
    unchanged_by(ledger, PlanRefused, reserve, ledger, plan("odd", gaussian(cohort="strangers")))
    unchanged_by(ledger, WrongState, ledger.add_cohort, "newcomers", n_public=1, approved_by="x")


def test_delta_above_the_rule_is_refused_except_on_public_data(ledger: Ledger) -> None:
    loose = plan("first", target_delta=1e-5)
    unchanged_by(ledger, DeltaTooLarge, reserve, ledger, loose)
    unchanged_by(ledger, DeltaTooLarge, reserve, ledger, loose, allow_delta=True)
    unchanged_by(ledger, DeltaTooLarge, reserve, ledger, loose, schema_public=True)
    unchanged_by(ledger, DeltaTooLarge, ledger.price, loose)
    assert ledger.price(loose, schema_public=True, allow_delta=True).fits
    reserve(ledger, loose, schema_public=True, allow_delta=True)
    assert ledger.release("first").delta_exception
    reserve(ledger, plan("second", target_delta=5e-6))
    assert not ledger.release("second").delta_exception


def test_a_delta_above_one_over_n_ln_n_is_advised_against(tmp_path) -> None:
    ledger = Ledger.open(population(tmp_path, n_public=1_000_000, target_delta=5e-8))
    people = {"n_public": 1_000_000}
    assert "7.2e-08 or smaller" in ledger.price(plan(target_delta=9e-8, **people)).advice
    assert ledger.price(plan(target_delta=7e-8, **people)).advice == ""


def test_plans_that_contradict_themselves_are_refused(ledger: Ledger) -> None:
    import dataclasses

    other = dataclasses.replace(gaussian(), declared={"noise_multiplier": 2.0})
    few = dataclasses.replace(training(), event=gaussian().event)
    for wrong in (plan("a", other), plan("b", few), plan("c", population="another")):
        unchanged_by(ledger, PlanRefused, reserve, ledger, wrong)


def test_artifacts_are_checked_byte_by_byte(ledger: Ledger, tmp_path: Path) -> None:
    a_plan = opened(ledger)
    file = tmp_path / "models" / "model.npz"
    file.parent.mkdir()
    file.write_bytes(b"model")
    ledger.begin("first", "table_model", executed(a_plan, "table_model"))
    ledger.commit("first", "table_model", {"model.npz": file_sha256(file)})
    ledger.verify_artifacts("first", "table_model", file.parent)
    file.write_bytes(b"nodel")
    with pytest.raises(ArtifactAltered, match="altered"):
        ledger.verify_artifacts("first", "table_model", file.parent)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactAltered, match="missing"):
        ledger.verify_artifacts("first", "table_model", file.parent)


def test_another_process_sees_the_same_ledger(ledger: Ledger, tmp_path: Path) -> None:
    reserve(ledger)
    other = Ledger.open(population(tmp_path))
    other.open_reservation("first")
    assert ledger.release("first").status == "OPENED"
    assert ledger.verify(reprice=True) == other.anchor()


def test_a_clock_that_jumps_back_changes_nothing(ledger: Ledger, monkeypatch) -> None:
    from datetime import UTC, datetime

    from dagster_project.ledger import chain

    class Past(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1970, 1, 1, tzinfo=UTC)

    reserve(ledger)
    monkeypatch.setattr(chain, "datetime", Past)
    ledger.open_reservation("first")
    ledger.attach("first", git_commit="abc")
    assert ledger.entries()[-1].at.startswith("1970")
    assert ledger.verify().entries == 5 and ledger.release("first").status == "OPENED"


def test_import_is_light() -> None:
    script = (
        "import sys, dagster_project.ledger, dagster_project.ledger.lineage;"
        "print(sorted({'torch', 'jax', 'pandas', 'dp_accounting', 'scipy', 'sqlalchemy'}"
        " & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
