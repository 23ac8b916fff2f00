"""The whole report on a small set: figures, JSON and one self-contained page."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dagster_project.data.pairs import Pairs
from dagster_project.data.schema import Schema
from dagster_project.evaluation.report import FidelityReport, evaluate, render_html
from dagster_project.image.features import make_extractor

MakePairs = Callable[[int, int], Pairs]
MECHANISMS = [{"mechanism": "image_model", "noise_multiplier": 1.23456, "count": 60}]


@pytest.fixture(scope="module")
def report(schema: Schema, make_pairs: MakePairs) -> FidelityReport:
    fractions: list[float] = []
    figures = evaluate(
        make_pairs(900, 0),
        make_pairs(300, 1),
        make_pairs(400, 2),
        make_pairs(5000, 3).codes,
        schema,
        make_extractor("pixels"),
        0,
        lambda fraction, _: fractions.append(fraction),
    )
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    return replace(figures, epsilon=1.0, delta=1e-6, seconds={"pairs": 1.5}, peak_memory=10**9)


def test_figures_lie_between_floor_and_ceiling(report: FidelityReport) -> None:
    assert report.auc_floor < 0.7 < report.auc_mean < report.auc_ceiling + 0.1
    assert report.mae_ceiling - 0.1 < report.mae_mean < report.mae_floor
    assert report.tvd_1way < 0.1
    assert report.tvd_2way < 0.1
    assert np.isnan(report.tvd_3way)  # two attributes only
    assert set(report.tvd_sampling_floor) == {"1", "2"}
    assert report.fd == pytest.approx(report.fd_real, abs=0.2)
    assert report.fd_extractor == "FD-pixels"
    assert report.precision > 0.5
    assert report.esg > 0.5 > report.esg_floor


def test_json_is_strict_and_complete(report: FidelityReport) -> None:
    content = json.loads(report.to_json())
    asked = {"epsilon", "delta", "auc_mean", "auc_floor", "auc_ceiling", "mae_mean"}
    asked |= {"tvd_1way", "tvd_2way", "tvd_3way", "tvd_sampling_floor"}
    asked |= {"fd", "fd_extractor", "peak_memory", "seconds"}
    assert asked <= set(content)
    assert "not differentially private" in content["notice"]
    assert content["tvd_3way"] is None
    assert content["seconds"] == {"pairs": 1.5}
    assert [row["name"] for row in content["attributes"]] == ["colour", "light"]
    assert content["attributes"][0]["mae"] is None


def test_page_needs_nothing_else(
    report: FidelityReport, schema: Schema, make_pairs: MakePairs, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    render_html(report, make_pairs(300, 1), make_pairs(400, 2), schema, MECHANISMS, path)
    html = path.read_text(encoding="utf-8")
    assert "PRIVATE" in html
    assert "computed on real data, not differentially private" in html
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\' )>]*)', html)
    assert len(sources) == 2 * (3 + 4)  # real and synthetic strips of every value
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in html
    assert "http" not in html
    assert "&lt;b&gt;green&lt;/b&gt;" in html
    assert "<b>green" not in html
    assert "1.235" in html
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_page_without_what_the_caller_fills(
    report: FidelityReport, schema: Schema, make_pairs: MakePairs, tmp_path: Path
) -> None:
    bare = replace(report, epsilon=None, delta=None, seconds={}, peak_memory=None)
    render_html(bare, make_pairs(30, 1), make_pairs(30, 2), schema, [], tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Where the privacy went" not in html
    assert "Where the time went" not in html


def test_too_few_pairs_is_one_sentence(schema: Schema, make_pairs: MakePairs) -> None:
    pairs = make_pairs(20, 0)
    few = make_pairs(3, 1)
    with pytest.raises(ValueError, match="at least 10 rows"):
        evaluate(pairs, pairs, few, pairs.codes, schema, make_extractor("pixels"), 0)
