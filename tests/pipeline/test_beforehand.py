"""What public numbers alone refuse, before anything is spent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dagster_project.pipeline.beforehand import require_numbers, require_people
from dagster_project.pipeline.release import Compute
from tests.ledger.toys import population
from tests.planning.test_planner import schema


def test_schema_and_population_must_have_one_number_of_people(tmp_path):
    people = population(tmp_path, n_public=2000)
    cohorts = [
        SimpleNamespace(name="founding", n_public=2000),
        SimpleNamespace(name="new", n_public=300),
    ]
    require_numbers(schema(2000), people, cohorts, "all")
    require_numbers(schema(2300), people, cohorts, "all")
    require_numbers(schema(300), people, cohorts, "new")
    for number, who in ((300, "all"), (1999, "all"), (2001, "new")):
        with pytest.raises(ValueError, match=f"n_public: {number}, and population.yaml 2000"):
            require_numbers(schema(number), people, cohorts, who)


def test_too_few_people_for_the_report(tmp_path):
    require_people(150, tmp_path)
    with pytest.raises(ValueError, match="n_public: 149 is too few people: 10 % of them are held"):
        require_people(149, tmp_path)
    (tmp_path / "heldout.parquet").touch()
    require_people(30, tmp_path)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    Compute(device="auto").require_device()
    with pytest.raises(ValueError, match="no GPU that torch can use: choose the device cpu"):
        Compute(device="cuda").require_device()
