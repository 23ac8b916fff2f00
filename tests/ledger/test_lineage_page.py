"""The page and the picture: everything is on it, nothing is loaded, nothing private is public."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dagster_project.ledger import Ledger, lineage, timeline_figure
from dagster_project.ledger.lineage_page import render_html
from tests.ledger.toys import SHA, executed, gaussian, plan, population

TRICK = "<script>alert(1)</script>"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger.open(population(tmp_path))
    ledger.reserve(plan("first"), approved_by=f"Dr. Steward{TRICK}", schema_public=False)
    ledger.attach("first", mlflow_run="m1", note=TRICK)
    ledger.open_reservation("first")
    ledger.begin("first", "table_model", executed(plan(), "table_model"))
    ledger.commit("first", "table_model", {"table.npz": SHA})
    ledger.reserve(plan("mistake"), approved_by="x", schema_public=False)
    ledger.void("mistake")
    ledger.add_cohort("newcomers", n_public=900, approved_by="x")
    ledger.reserve(
        plan("second", gaussian(cohort="newcomers")), approved_by="x", schema_public=False
    )
    return ledger


class Elements(HTMLParser):
    """Tags that stand in a page, and what they would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href", "action", "data")]


def test_the_page_is_whole_and_loads_nothing(ledger: Ledger) -> None:
    page = render_html(lineage.trace(ledger, "first"), lineage.timeline(ledger))
    for words in (
        "noise_multiplier = 4.2",
        "clip_norm = 1",
        "table.npz",
        SHA,
        "Dr. Steward",
        plan().data_version,
        ledger.head,
        "cohort founding",
        "cohort newcomers",
        "mistake (given back)",
        "lifetime budget (ε",
    ):
        assert words in page
    elements = Elements()
    elements.feed(page)
    assert "svg" in elements.tags
    assert not {"script", "link", "img", "iframe", "object"} & set(elements.tags)
    assert all(link is not None and link.startswith("#") for link in elements.loads)
    assert "url(http" not in page and "@import" not in page
    assert TRICK not in page and "&lt;script&gt;" in page


def test_the_public_page_hides_what_is_private(ledger: Ledger) -> None:
    page = render_html(lineage.trace(ledger, "first"), lineage.timeline(ledger), public=True)
    assert "m1" in page and "noise_multiplier = 4.2" in page
    for hidden in ("Steward", plan().data_version, plan("first").hash, "alert"):
        assert hidden not in page


def test_the_same_account_gives_the_same_page(ledger: Ledger) -> None:
    chain, rows = lineage.trace(ledger, "first"), lineage.timeline(ledger)
    assert render_html(chain, rows) == render_html(chain, rows)


def test_bars_show_the_account_as_shares_of_the_cap(ledger: Ledger) -> None:
    rows = lineage.timeline(ledger)
    founding, newcomers = timeline_figure.figure(rows).axes
    tops = [p.get_y() + p.get_height() for p in founding.patches]
    share = 100 * rows[0]["spent"] / rows[0]["cap"]
    assert max(tops) == pytest.approx(2 * share)
    assert tops[-2] == pytest.approx(share)  # given back: as before it
    assert max(p.get_height() for p in newcomers.patches) == pytest.approx(share)
    assert founding.get_ylim()[1] > 100
    title = founding.get_title(loc="left")
    assert re.search(r"[\d.]+ % of the lifetime budget used, \d+ more", title)


def test_images_of_nothing_and_of_much(tmp_path: Path, ledger: Ledger) -> None:
    assert "nothing has been spent" in timeline_figure.svg([])
    row = lineage.timeline(ledger)[0]
    many = [row | {"release_id": f"release-{i}", "entry": i} for i in range(300)]
    text = timeline_figure.svg(many)
    assert "260 earlier charges not shown" in text and "release-299" in text
    assert timeline_figure.png(many).startswith(b"\x89PNG")
