"""The noisy number of people: exact sensitivity, what it costs, and when it decides."""

from __future__ import annotations

import math

import pytest

from dagster_project.audits.faults import Silent
from dagster_project.audits.probes import LEAST, MOST, PROBES, losses
from dagster_project.planning.mechanisms import mechanisms
from dagster_project.privacy.mechanism import MechanismMismatch
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.settings.recipe import Recipe
from dagster_project.table.minimum_people import MinimumPeople, expected_people
from tests.planning.test_planner import schema

SOUND = MinimumPeople(sigma=30.0, minimum=100)


def made(n_public: int, *, mu: float, share: float = 0.01, **changes) -> MinimumPeople | None:
    recipe = Recipe().changed(changes)
    return MinimumPeople.from_budget(schema(n_public), recipe, mu=mu, share=share)


def test_one_person_moves_the_number_by_its_sensitivity():
    exact = [SOUND.run(people, generator=Silent()) for people in (7, 8)]
    assert exact[1] - exact[0] == SOUND.sensitivity() == 1


def test_what_runs_is_what_is_declared():
    generator = SecureGenerator()
    MinimumPeople.of(SOUND.entry()).run(7, generator=generator)
    SOUND.verify(generator.uses)
    with pytest.raises(MechanismMismatch):
        MinimumPeople(sigma=29.0, minimum=100).verify(generator.uses)
    SOUND.run(7, generator=generator)
    with pytest.raises(MechanismMismatch):
        SOUND.verify(generator.uses)


def test_the_probe_finds_each_fault():
    sound, faulty = losses(PROBES[MinimumPeople])
    assert all(LEAST <= loss <= MOST for loss in sound.values())
    assert min(faulty.values()) > MOST


def test_it_takes_no_more_of_the_budget_than_a_decision_at_half_of_the_people_needs():
    few, many = made(2_000, mu=0.24), made(20_000, mu=0.24)
    assert few.sigma == pytest.approx(1800 / 16) and many.sigma == pytest.approx(18_000 / 16)
    # Shares of mu^2: a thousandth at about 2,400 people and epsilon 1, and less with more people.
    assert (1 / (few.sigma * 0.24)) ** 2 < 0.0015 and (1 / (many.sigma * 0.24)) ** 2 < 2e-5
    assert (few.minimum, many.minimum) == (900, 9000)
    assert made(300, mu=0.24).sigma == pytest.approx(1 / (0.24 * math.sqrt(0.01)))


@pytest.mark.parametrize(("n_public", "mu"), [(250, 0.24), (400, 0.24), (400, 1.0), (5000, 0.1)])
def test_a_complete_data_set_goes_on_and_an_empty_one_does_not(n_public, mu):
    found, people = made(n_public, mu=mu), expected_people(n_public)
    assert (people - found.minimum) / found.sigma >= 3.1
    assert found.minimum / found.sigma >= 1.0
    assert found.minimum <= people / 2


def test_a_count_that_could_not_decide_is_left_out():
    assert made(150, mu=0.12) is None
    assert made(5000, mu=0.24, share=0.0) is None
    assert made(5000, mu=0.24, minimum_people=0) is None
    assert made(150, mu=0.12, minimum_people=40).minimum == 40


def test_it_is_the_first_mechanism_of_every_plan():
    recipe = Recipe().changed({"table.rounds": 1, "dp_sgd.steps": 8})
    (first, *_) = mechanisms(schema(5000), recipe, 0.3)
    assert first.stage == "minimum_people" and first.declared["minimum"] == 2250
