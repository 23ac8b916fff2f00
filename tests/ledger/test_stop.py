"""A count of people may end a release: what nothing else has spent is given back, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagster_project.ledger import Ledger, LedgerBroken, WrongState, lineage, pricing
from dagster_project.ledger.chain import Entry, Head
from dagster_project.ledger.export import export_lines, verify_lines
from dagster_project.ledger.gdp_filter import leak
from dagster_project.privacy.accounting import gdp_cost
from dagster_project.privacy.events import BoundedRange, DiscreteGaussian
from dagster_project.privacy.plan import PlannedMechanism
from tests.ledger.toys import SHA, executed, gaussian, plan, population

COUNT = PlannedMechanism(
    name="minimum_people",
    stage="minimum_people",
    event=DiscreteGaussian(sigma=60.0),
    declared={"sigma": 60.0, "minimum": 100},
    cohort="all",
)
CHOICE = PlannedMechanism(
    name="selection",
    stage="table_model",
    event=BoundedRange(epsilon=0.3, count=2),
    declared={"epsilon": 0.3},
    cohort="all",
)
PLAN = plan("first", COUNT, gaussian(), CHOICE)
LEAK = leak(5.0, target_delta=1e-6)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger.open(population(tmp_path))
    ledger.reserve(PLAN, approved_by="steward", schema_public=False)
    ledger.open_reservation("first")
    return ledger


def count(ledger: Ledger) -> None:
    ledger.begin("first", "minimum_people", executed(PLAN, "minimum_people"))
    ledger.commit("first", "minimum_people", {"minimum_people.json": SHA})


def test_a_stop_keeps_the_cost_of_the_count_and_gives_back_that_of_the_rest(ledger: Ledger) -> None:
    rest = gdp_cost([gaussian().event, CHOICE.event], leak=LEAK)
    alone, whole = gdp_cost([COUNT.event], leak=LEAK), gdp_cost(PLAN.events, leak=LEAK)
    (before,) = (cohort.spent for cohort in ledger.cohorts())
    # Both ways on are covered: going on costs what was charged, and stopping what is kept.
    assert before >= whole and before - rest >= alone * (1 - 1e-9)
    count(ledger)
    assert ledger.stop("first") and ledger.stop("first")
    (after,) = (cohort.spent for cohort in ledger.cohorts())
    assert after == pytest.approx(before - rest) and after < 0.01 * before
    assert ledger.release("first").status == "STOPPED"
    assert [row["event"] for row in lineage.timeline(ledger)] == ["RESERVED", "STOPPED"]
    assert lineage.timeline(ledger)[-1]["spent"] == after
    ledger.verify(reprice=True)
    assert verify_lines(export_lines(ledger.entries())).releases["first"].stopped


def test_nothing_runs_after_a_stop(ledger: Ledger) -> None:
    count(ledger)
    ledger.stop("first")
    for call in (
        lambda: ledger.begin("first", "table_model", executed(PLAN, "table_model")),
        lambda: ledger.open_reservation("first"),
        lambda: ledger.admit("first", ["somebody"]),
        lambda: ledger.void("first"),
        lambda: ledger.reserve(PLAN, approved_by="steward", schema_public=False),
    ):
        with pytest.raises(WrongState, match=r"STOPPED|was stopped"):
            call()


def test_only_the_committed_count_alone_can_stop(ledger: Ledger) -> None:
    def refused() -> None:
        with pytest.raises(WrongState, match="only be stopped after"):
            ledger.stop("first")

    refused()
    ledger.begin("first", "minimum_people", executed(PLAN, "minimum_people"))
    refused()
    ledger.commit("first", "minimum_people", {"minimum_people.json": SHA})
    ledger.begin("first", "table_model", executed(PLAN, "table_model"))
    refused()


def test_a_plan_without_a_count_cannot_be_stopped(ledger: Ledger) -> None:
    ledger.reserve(plan("plain"), approved_by="steward", schema_public=False)
    ledger.open_reservation("plain")
    with pytest.raises(WrongState, match="only be stopped after"):
        ledger.stop("plain")


def test_a_charge_of_the_whole_cap_gives_nothing_back() -> None:
    paid = [(COUNT.event, True), (gaussian().event, False)]
    whole = gdp_cost([event for event, _ in paid], leak=LEAK)
    for cap, given in ((whole, 0.0), (whole * 1.01, gdp_cost([gaussian().event], leak=LEAK))):
        fixed = {"cap": cap, "leak": LEAK, "lifetime_epsilon": 5.0, "target_delta": 1e-6}
        kept, returned = pricing._costs(paid, fixed)
        assert returned == given and kept + returned == pytest.approx(whole)


def test_what_runs_in_the_stage_of_the_count_is_never_given_back(tmp_path: Path) -> None:
    """The stage begins as a whole, so a stop comes after everything in it has run."""
    beside = gaussian(9.0, stage="minimum_people")
    rest = gdp_cost([gaussian().event], leak=LEAK)
    ledger = Ledger.open(population(tmp_path))
    a_plan = plan("beside", COUNT, beside, gaussian())
    ledger.reserve(a_plan, approved_by="steward", schema_public=False)
    ledger.open_reservation("beside")
    (before,) = (cohort.spent for cohort in ledger.cohorts())
    ledger.begin("beside", "minimum_people", executed(a_plan, "minimum_people"))
    ledger.commit("beside", "minimum_people", {"minimum_people.json": SHA})
    ledger.stop("beside")
    (after,) = (cohort.spent for cohort in ledger.cohorts())
    assert before - after == pytest.approx(rest)
    assert after >= gdp_cost([COUNT.event, beside.event], leak=LEAK) * (1 - 1e-9)
    ledger.verify(reprice=True)


def test_a_forged_refund_is_found(ledger: Ledger) -> None:
    lines = list(export_lines(ledger.entries()))
    place = next(i for i, line in enumerate(lines) if '"refunds"' in line)
    entries = [json.loads(line)["entry"] for line in lines]
    (cohort,) = entries[place]["body"]["refunds"]
    entries[place]["body"]["refunds"][cohort] *= 0.99
    head, forged = Head(), []
    for entry in entries:
        new = Entry.after(head, entry["kind"], entry["body"])
        forged.append(new)
        head = Head(entries=new.seq, head=new.hash)
    with pytest.raises(LedgerBroken, match="gives back"):
        verify_lines(export_lines(forged))
