"""Markdown table of a comparison: mean and standard deviation over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from dagster_project.benchmark import NOTICE

Row = Mapping[str, Any]

# (heading, figure, the bounds to read it between, decimals)
COLUMNS: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
    ("AUC (floor – ceiling)", "auc_mean", ("auc_floor", "auc_ceiling"), 3),
    ("MAE (floor – ceiling)", "mae_mean", ("mae_floor", "mae_ceiling"), 3),
    ("ESG (floor – 1)", "esg", ("esg_floor",), 3),
    ("{fd_extractor} (real)", "fd", ("fd_real",), 1),
    ("KID (real)", "kid", ("kid_real",), 4),
    ("precision (real)", "precision", ("precision_real",), 2),
    ("recall (real)", "recall", ("recall_real",), 2),
    ("density (real)", "density", ("density_real",), 2),
    ("coverage (real)", "coverage", ("coverage_real",), 2),
    ("near-duplicates (real)", "near_duplicates", ("near_duplicates_real",), 3),
    ("TVD 1-way (floor)", "tvd_1way", ("tvd_1way_floor",), 3),
    ("TVD 2-way (floor)", "tvd_2way", ("tvd_2way_floor",), 3),
    ("TVD 3-way (floor)", "tvd_3way", ("tvd_3way_floor",), 3),
    ("– of the pairs (floor)", "tvd_3way_of_pairs", ("tvd_3way_of_pairs_floor",), 3),
    ("accuracy of {accuracy_of} (ceiling)", "accuracy", ("accuracy_ceiling",), 3),
)


def markdown(rows: Sequence[Row]) -> str:
    """Return a table with one line per method and epsilon.

    Each cross-modal figure has its shuffled floor and its real ceiling in brackets.
    """
    head = rows[0]
    headings = [heading.format_map(Named(head)) for heading, *_ in COLUMNS]
    lines = [
        f"**{NOTICE}**",
        "",
        cells(["method", "ε", "seeds", "ε spent", *headings, "CPU s", "peak GB"]),
        cells(["---"] * (len(headings) + 6)),
    ]
    for group in groups(rows):
        spent = max(row["epsilon_spent"] for row in group)
        lines.append(
            cells(
                [
                    group[0]["method"],
                    f"{group[0]['epsilon']:g}",
                    str(len(group)),
                    f"{spent:.4f}",
                    *(_entry(group, name, bounds, digits) for _, name, bounds, digits in COLUMNS),
                    _spread([row["cpu_seconds"] for row in group], 0),
                    f"{max(row['peak_memory'] for row in group) / 1e9:.2f}",
                ]
            )
        )
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    """Return a line of text about one finished trial."""
    figures = (("AUC", "auc_mean", ".3f"), ("FD", "fd", ".1f"), ("ESG", "esg", ".3f"))
    shown = (f"{name} {row[key]:{form}}" for name, key, form in figures if row[key] is not None)
    return (
        f"{row['method']} epsilon {row['epsilon']:g} seed {row['seed']}: {', '.join(shown)}, "
        f"{row['cpu_seconds']:.0f} + {row['evaluation_cpu_seconds']:.0f} CPU s"
    )


def groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows by epsilon and method, in the order in which they first occur."""
    together: dict[tuple[float, str], list[Row]] = {}
    for row in rows:
        together.setdefault((row["epsilon"], row["method"]), []).append(row)
    epsilons = list(dict.fromkeys(row["epsilon"] for row in rows))
    return sorted(together.values(), key=lambda group: epsilons.index(group[0]["epsilon"]))


def _entry(group: Sequence[Row], name: str, bounds: Sequence[str], digits: int) -> str:
    between = [_mean([row.get(bound) for row in group], digits) for bound in bounds]
    return f"{_spread([row.get(name) for row in group], digits)} ({' – '.join(between)})"


def _mean(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.{digits}f}" if known else "—"


def _spread(values: Sequence[float | None], digits: int) -> str:
    """Return mean ± standard deviation over seeds; only the mean for one seed."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return _mean(values, digits)
    return f"{_mean(values, digits)} ± {statistics.stdev(known):.{digits}f}"


def cells(entries: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(entries)} |"


class Named(dict[str, Any]):
    """Row for headings, in which a missing figure is a dash."""

    def __missing__(self, key: str) -> str:
        return "—"
