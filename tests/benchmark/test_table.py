"""The table's layout: mean ± deviation over seeds, floors and ceilings beside."""

from __future__ import annotations

from typing import Any

from dagster_project.benchmark.table import line, markdown
from dagster_project.benchmark.trial import FIGURES


def row(method: str, epsilon: float, seed: int, **changes: Any) -> dict[str, Any]:
    figures = dict.fromkeys(FIGURES, 0.5)
    return {
        **figures,
        "method": method,
        "epsilon": epsilon,
        "seed": seed,
        "epsilon_spent": epsilon - 0.01,
        "fd_extractor": "FD-Lite0",
        "accuracy_of": "shape",
        "accuracy": 0.7,
        "accuracy_ceiling": 0.9,
        "cpu_seconds": 100.0 + seed,
        "evaluation_cpu_seconds": 20.0,
        "peak_memory": 1.5e9,
        **changes,
    }


def cells(table: str) -> list[list[str]]:
    lines = [text for text in table.splitlines() if text.startswith("|")]
    return [[cell.strip() for cell in text.strip("|").split("|")] for text in lines]


def test_one_line_for_each_method_and_epsilon() -> None:
    rows = [
        row("base", 1.0, 0, auc_mean=0.6, auc_floor=0.5, auc_ceiling=0.97),
        row("ours", 1.0, 0, auc_mean=0.8, mae_mean=None),
        row("base", 10.0, 0),
        row("base", 1.0, 1, auc_mean=0.7, auc_floor=0.5, auc_ceiling=0.97),
    ]
    table = markdown(rows)
    assert "NOT A RELEASE" in table
    heading, _, *body = cells(table)
    assert [line[:3] for line in body] == [
        ["base", "1", "2"], ["ours", "1", "1"], ["base", "10", "1"],
    ]  # fmt: skip
    assert all(len(line) == len(heading) for line in body)
    assert body[0][heading.index("AUC (floor – ceiling)")] == "0.650 ± 0.071 (0.500 – 0.970)"
    assert body[1][heading.index("AUC (floor – ceiling)")] == "0.800 (0.500 – 0.500)"
    assert body[1][heading.index("MAE (floor – ceiling)")].startswith("— (")
    assert body[0][heading.index("accuracy of shape (ceiling)")] == "0.700 ± 0.000 (0.900)"
    assert "FD-Lite0 (real)" in heading
    assert body[0][heading.index("CPU s")] == "100 ± 1"


def test_a_line_leaves_out_what_does_not_exist() -> None:
    told = line(row("base", 1.0, 0, esg=None))
    assert "AUC 0.500" in told and "ESG" not in told and "100 + 20 CPU s" in told
