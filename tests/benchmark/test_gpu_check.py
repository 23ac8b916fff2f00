"""The check of a GPU machine, in small and on whatever device is here."""

import json
import sys

import pytest
import torch

from dagster_project.benchmark import gpu_check
from dagster_project.benchmark.dp_step import Case
from dagster_project.pipeline.release import Compute

HERE = Compute().torch_device


@pytest.mark.parametrize("kind", ["layers", "vmap"])
def test_a_persons_gradient_is_the_same_beside_others_and_again(kind):
    case = Case(device=HERE.type, network="mixer", channels=1, b=gpu_check.PEOPLE, k=2)
    found = gpu_check._engine(case, kind)
    assert found["companions"] == found["repeats"] == 1
    assert found["error"] < 1e-5


def test_the_check_sees_a_gradient_that_follows_its_companions(monkeypatch):
    engine = gpu_check.per_example_engine

    def mixed(model, losses, kind):
        inner = engine(model, losses, kind)

        def engine_of_all(batch):
            rows = inner(batch)
            return rows + 1e-4 * rows.mean(dim=0)

        return engine_of_all

    monkeypatch.setattr(gpu_check, "per_example_engine", mixed)
    case = Case(device="cpu", network="mixer", channels=1, b=gpu_check.PEOPLE, k=1)
    assert gpu_check._engine(case, "layers")["companions"] > 1


def test_all_parts_take_less_than_nine_minutes_and_one_that_fails_loses_only_itself(
    tmp_path, monkeypatch
):
    limits = gpu_check.parts(torch.device("cpu"), True, None)
    assert sum(limit for limit, _ in limits.values()) <= 9 * 60

    def outcome(arguments, limit, log):
        name = arguments[-1]
        if name == "statistics":
            return f"took more than {limit} s"
        assert gpu_check.main([*arguments[:-2], "--part", name]) == 0
        return "done"

    def stub(name):
        return lambda: iter([{"part": name}])

    few = {name: (limit, stub(name)) for name, (limit, _) in limits.items()}
    monkeypatch.setattr(gpu_check, "parts", lambda *_: few)
    monkeypatch.setattr(gpu_check, "_outcome", outcome)
    assert gpu_check.main([str(tmp_path), "--quick", "--device", "cpu"]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    outcomes = {name: part["outcome"] for name, part in summary["parts"].items()}
    assert outcomes.pop("statistics").startswith("took more")
    assert set(outcomes.values()) == {"done"} and summary["python"] in sys.version
    assert json.loads((tmp_path / "engines.json").read_text()) == [{"part": "engines"}]
