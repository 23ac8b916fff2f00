"""Reservations that nobody opened expire; what was opened never does, whatever the clocks say."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from dagster_project.ledger import Ledger, WrongState, chain, expiry
from tests.ledger.toys import gaussian, plan, population

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Clock:
    """The clock of every process, as this test sets it."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self, _zone: object) -> datetime:
        return self.time

    def jump(self, days: float) -> None:
        self.time += timedelta(days=days)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    for module in (chain, expiry):
        monkeypatch.setattr(module, "datetime", SimpleNamespace(now=clock.now))
    return clock


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger.open(population(tmp_path, reservation_days=10))


def reserve(ledger: Ledger, name: str) -> None:
    ledger.reserve(plan(name, gaussian(20.0)), approved_by="x", schema_public=False)


def test_an_abandoned_reservation_is_given_back_at_the_next(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger, "forgotten")
    clock.jump(9)
    reserve(ledger, "second")
    assert ledger.release("forgotten").status == "RESERVED"
    clock.jump(2)
    spent = ledger.cohorts()[0].spent
    price = ledger.price(plan("third", gaussian(20.0)))
    assert price.spent == pytest.approx(spent / 2)  # priced as it will be charged, and not yet told
    assert ledger.release("forgotten").status == "RESERVED"
    reserve(ledger, "third")
    assert ledger.release("forgotten").status == "VOID"
    assert ledger.release("second").status == "RESERVED"
    assert ledger.cohorts()[0].spent == spent
    last = ledger.entries()[-2]
    assert last.kind == "VOID" and last.body["expired_after_days"] == 10
    with pytest.raises(WrongState, match="VOID"):
        ledger.open_reservation("forgotten")
    ledger.verify()


def test_what_was_opened_never_expires(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger, "opened")
    ledger.open_reservation("opened")
    clock.jump(10_000)
    reserve(ledger, "later")
    assert ledger.release("opened").status == "OPENED"


def test_the_same_plan_finds_its_own_reservation_however_late(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger, "late")
    clock.jump(500)
    reserve(ledger, "late")
    assert ledger.release("late").status == "RESERVED"


def test_a_clock_set_back_expires_nothing_early_or_twice(ledger: Ledger, clock: Clock) -> None:
    reserve(ledger, "old")
    clock.jump(-400)
    reserve(ledger, "young")  # of the same age: the ledger's time does not go back
    clock.jump(400 + 9)
    reserve(ledger, "third")
    assert {item.status for item in ledger.releases().values()} == {"RESERVED"}
    clock.jump(2)
    reserve(ledger, "fourth")
    told = {name: item.status for name, item in ledger.releases().items()}
    assert told["old"] == told["young"] == "VOID" and told["third"] == "RESERVED"


def test_clocks_that_jump_at_random_never_free_what_was_opened(tmp_path, clock: Clock) -> None:
    """Several processes, each with any clock; what was read stays charged, in full."""
    toy, coin = population(tmp_path, lifetime_epsilon=50.0, reservation_days=3), random.Random(1)
    crowd = [Ledger.open(toy) for _ in range(3)]
    opened: set[str] = set()
    cost = crowd[0].price(plan("any", gaussian(20.0))).cost
    for number in range(120):
        clock.time = NOW + timedelta(days=coin.uniform(-3000, 3 * number))
        one, name = coin.choice(crowd), f"r{coin.randrange(max(1, number))}"
        if coin.random() < 0.5:
            reserve(one, f"r{number}")
        elif one.releases().get(name) is not None:
            try:
                one.open_reservation(name)
                opened.add(name)
            except WrongState:
                assert one.release(name).void
        cohort = coin.choice(crowd).cohorts()[0]
        assert cohort.spent >= len(opened) * cost * (1 - 1e-9)
    told = crowd[0].releases()
    assert {name for name, item in told.items() if item.opened} == opened
    assert len(opened) > 10 and sum(item.void for item in told.values()) > 10
    crowd[1].verify()


def test_one_opens_while_another_lets_it_expire(tmp_path: Path, clock: Clock) -> None:
    """Either it is opened and stays charged, or it is void and nothing may be read."""
    toy = population(tmp_path, lifetime_epsilon=50.0, reservation_days=1)
    opener, other = Ledger.open(toy), Ledger.open(toy)
    outcomes = set()

    def open_it(name: str) -> bool:
        try:
            opener.open_reservation(name)
        except WrongState:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for number in range(30):
            name, later = f"raced-{number}", f"later-{number}"
            reserve(opener, name)
            clock.jump(2)
            racing = [(open_it, name), (partial(reserve, other), later)]
            order = racing if number % 2 else racing[::-1]
            answers = {task: pool.submit(task, on) for task, on in order}
            answers[racing[1][0]].result()
            allowed = answers[open_it].result()
            release = Ledger.open(toy).release(name)
            assert release.opened == allowed and release.void != allowed
            outcomes.add(allowed)
            other.void(later)
    assert outcomes == {True, False}
    assert other.cohorts()[0].spent > 0
    other.verify()
