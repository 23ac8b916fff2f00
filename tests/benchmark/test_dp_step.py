"""The benchmark of a private step: what it compares, and what it prints."""

import json

import pytest
import torch

from dagster_project.benchmark import dp_step
from dagster_project.cli.main import main


@pytest.mark.parametrize("network", dp_step.NETWORKS)
def test_both_steps_take_the_same_rows_through_the_same_network(network):
    case = dp_step.Case(device="cpu", network=network, channels=1, b=5, k=2)
    whole = case.batch()
    parts = list(case.parts(whole, 2))
    assert [len(part["image"]) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part["noise"] for part in parts]), whole["noise"])
    one, other = case.model(), case.model()
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    for method in ("layers", "vmap", *dp_step.ORDINARY):
        with case.step(method) as step:
            step()


def test_a_row_for_each_engine_with_time_and_memory(capsys, monkeypatch):
    def here(case, method):
        return dp_step.peak_memory(case, method, 1, repeats=1) + 1

    monkeypatch.setattr(dp_step, "_apart", here)  # instead of in processes of their own
    options = ["--networks", "mixer", "--b", "4", "--k", "1,2", "--seconds", "0", "--json"]
    assert main(["bench", "dp-step", "--device", "cpu", *options]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["engine"], row["k"]) for row in rows] == [
        ("layers", 1), ("vmap", 1), ("layers", 2), ("vmap", 2)
    ]  # fmt: skip
    for row in rows:
        assert {"device", "network", "b", "channels"} < set(row)
        assert row["ratio"] > 0 and row["peak_memory_ratio"] > 0
        assert row["ratio"] == pytest.approx(
            row["private_seconds"] / row["ordinary_seconds"], rel=0.05
        )
    assert sum(row["chosen"] for row in rows) == 2


def test_an_unknown_network_is_refused(capsys):
    assert main(["bench", "dp-step", "--networks", "resnet"]) == 2
    assert "mixer" in capsys.readouterr().err
