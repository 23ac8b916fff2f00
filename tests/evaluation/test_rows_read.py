"""The first lines of the private report."""

from __future__ import annotations

import stat

from dagster_project.evaluation.report import render_few
from dagster_project.evaluation.rows_read import rows_read
from tests.data.toys import SCHEMA

COUNTS = {
    "rows": 400,
    "train": 182,
    "held_out": 20,
    "reasons": {"sex: value changed": 3, "image <b>deep</b>: row dropped": 198},
    "values": {"sex f": [198, 0], "sex m": [202, 202], "age [0, 20)": [21, 20]},
}


def test_the_largest_losses_come_first_and_values_that_vanish_are_named():
    assert rows_read(COUNTS) == [
        "400 rows were read. 202 people are left, each with one record and one picture: 182 train "
        "and 20 are held out.",
        "198 rows: image <b>deep</b>: row dropped.",
        "3 rows: sex: value changed.",
        "Of 198 people with sex f and a usable record, 0 are left.",
    ]


def test_a_page_without_figures_says_why(tmp_path):
    render_few(rows_read(COUNTS), SCHEMA, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text()
    assert "PRIVATE" in html and "needs at least 10 people who train" in html
    assert "&lt;b&gt;deep" in html and "Of 198 people with sex f" in html
    assert stat.S_IMODE((tmp_path / "r.html").stat().st_mode) == 0o600
