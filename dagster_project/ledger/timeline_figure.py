"""The account as a figure: the spending of each cohort against its cap, by release.

Heights are shares of the lifetime budget, in the filter's own currency (μ²), because that is what
adds up. Only drawing belongs here: the rows come from `lineage.timeline`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.ledger.gdp_filter import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BEFORE, _NOW, _BACK, _CAP = "#c9d6e3", "#2f6690", "#ffffff", "#b3261e"
_MOST = 40  # maximum number of charges shown for a cohort; the newest are kept


def figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw one panel for each cohort that has spent.

    Args:
        rows: From `lineage.timeline`.
    """
    from matplotlib.figure import Figure

    cohorts = list(dict.fromkeys(row["cohort"] for row in rows))
    longest = max((sum(row["cohort"] == name for row in rows) for name in cohorts), default=1)
    width = min(12.0, max(5.0, 2.2 + 0.55 * min(longest, _MOST)))
    made = Figure(figsize=(width, max(1.0, 2.9 * len(cohorts))), layout="constrained")
    if not cohorts:
        made.text(0.5, 0.5, "nothing has been spent", ha="center", va="center")
        return made
    panels = made.subplots(len(cohorts), 1, squeeze=False)[:, 0]
    for panel, name in zip(panels, cohorts, strict=True):
        _panel(panel, name, [row for row in rows if row["cohort"] == name])
        panel.set_xlim(-0.6, min(max(longest, 4), _MOST) - 0.4)
    return made


def _panel(panel: Any, name: str, rows: list[Mapping[str, Any]]) -> None:
    last, left_out = rows[-1], len(rows[:-_MOST])
    rows = rows[-_MOST:]
    for x, row in enumerate(rows):
        after, before = (100 * v / row["cap"] for v in (row["spent"], row["spent"] - row["change"]))
        panel.bar(x, min(before, after), color=_BEFORE, width=0.8)
        style = (
            {"color": _NOW} if after > before else {"color": _BACK, "edgecolor": _NOW, "ls": ":"}
        )
        panel.bar(x, abs(after - before), bottom=min(before, after), width=0.8, **style)
        if len(rows) <= 14:
            panel.text(x, max(after, before) + 2, percent(row["share"]), ha="center", fontsize=8)
    panel.axhline(100, color=_CAP, linewidth=1.5)
    panel.text(
        0.995, 101, f"lifetime budget (ε {last['lifetime_epsilon']:g})", color=_CAP, fontsize=8,
        ha="right", va="bottom", transform=panel.get_yaxis_transform(),
    )  # fmt: skip
    labels = [
        row["release_id"] + (" (given back)" if row["event"] in ("VOID", "STOPPED") else "")
        for row in rows
    ]
    panel.set_xticks(range(len(rows)), labels, rotation=30, ha="right", fontsize=8)
    panel.set_ylim(0, 118)
    panel.set_yticks([0, 25, 50, 75, 100])
    panel.set_ylabel("% used")
    panel.spines[["top", "right"]].set_visible(False)
    earlier = f", {left_out} earlier charges not shown" if left_out else ""
    title = (
        f"cohort {name}: {percent(last['share'])} of the lifetime budget used, "
        f"{last['releases_left']:,} more at ε = 1 fit{earlier}"
    )
    panel.set_title(title, loc="left", fontsize=10)


def svg(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figure as an <svg> element."""
    import matplotlib

    buffer = io.StringIO()
    # Text stays text, so that release ids can be searched in the page. A fixed salt keeps the
    # element's ids, and so the page, the same for the same account.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "timeline"}):
        figure(rows).savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the figure as PNG."""
    buffer = io.BytesIO()
    figure(rows).savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
