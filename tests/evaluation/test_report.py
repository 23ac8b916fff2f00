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
from dagster_project.evaluation.fidelity import compare
from dagster_project.evaluation.intervals import LEAST_FOR_VERDICT
from dagster_project.evaluation.reference import Reference, make_reference
from dagster_project.evaluation.report import FidelityReport, evaluate, render_html
from dagster_project.evaluation.way import BEHIND, BEYOND, NO_WAY, way
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
    assert report.coverage == pytest.approx(report.coverage_real, abs=0.1)
    assert report.density == pytest.approx(report.density_real, abs=0.2)
    assert max(report.near_duplicates, report.near_duplicates_real) < 0.1
    assert report.esg > 0.5 > report.esg_floor


def test_every_figure_of_held_out_people_has_an_interval(report: FidelityReport) -> None:
    assert set(report.intervals) == {
        "auc_mean", "mae_mean", "esg", "correlation_gap", "kid",
        "precision", "recall", "density", "coverage", "near_duplicates",
    }  # fmt: skip
    for name, ends in report.intervals.items():
        value = report.correlation.gap if name == "correlation_gap" else getattr(report, name)
        assert ends is None or (ends[0] <= value + 1e-9 and value - 1e-9 <= ends[1]), name
    low, high = report.intervals["auc_mean"] or (0, 0)
    assert 0 < high - low < 0.1  # 300 people
    assert report.ways["esg"] is not None
    light = report.attributes[1]
    for kind in ("auc", "accuracy", "mae"):
        low, high = light[f"{kind}_interval"]
        assert low < light[kind] < high


def test_a_reference_read_back_gives_the_same_report(
    schema: Schema, make_pairs: MakePairs, tmp_path: Path
) -> None:
    pairs, extractor = [make_pairs(40, seed) for seed in range(3)], make_extractor("pixels")
    made = make_reference(*pairs[:2], schema, extractor, synthetic=40, seed=0)
    made.save(tmp_path)
    first, second = (
        compare(reference, *pairs, pairs[2].codes, schema, extractor, 0).to_json()
        for reference in (made, Reference.load(tmp_path, schema))
    )
    assert first == second


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


def test_few_held_out_people_get_figures_but_no_verdict(
    report: FidelityReport, schema: Schema, make_pairs: MakePairs, tmp_path: Path
) -> None:
    pages = {}
    for heldout in (LEAST_FOR_VERDICT - 1, LEAST_FOR_VERDICT):
        rows = {**report.rows, "heldout": heldout}
        path = tmp_path / f"{heldout}.html"
        render_html(replace(report, rows=rows), *[make_pairs(30, 1)] * 2, schema, [], path)
        pages[heldout] = path.read_text(encoding="utf-8")
    few, enough = pages.values()
    assert "No verdict" in few and "99 people are held out" in few
    assert "% of the way" not in few and "is preserved" not in few
    assert f"{report.auc_mean:.3f}" in few
    assert "No verdict" not in enough
    assert "% of the way" in enough and "is preserved" in enough


def test_page_is_readable_in_both_modes_and_by_a_screen_reader(
    report: FidelityReport, schema: Schema, make_pairs: MakePairs, tmp_path: Path
) -> None:
    render_html(report, *[make_pairs(30, 1)] * 2, schema, MECHANISMS, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert '<html lang="en">' in html
    assert "@media print" in html
    assert all("scope=" in tag for tag in re.findall(r"<th\b[^>]*>", html))
    assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall(r"<img[^>]*>", html))
    assert all("aria-label" in tag for tag in re.findall(r'<[^>]*role="img"[^>]*>', html))
    light, dark = re.findall(r":root\{([^}]*)\}", html)
    for mode in (light, dark):
        colours = dict(re.findall(r"--([\w-]+):(#\w+)", mode))
        for ground in ("card", "paper"):
            for text in ("ink", "text", "muted", "accent"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["warn"], colours["warn-paper"]) >= 4.5
        assert contrast(colours["real"], colours["card"]) >= 3


def contrast(a: str, b: str) -> float:
    """Contrast of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        rgb = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dim, bright = sorted((luminance(a), luminance(b)))
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize(
    ("scores", "up", "share", "note"),
    [
        ((0.5, 0.7, 0.9), True, 50, ""),
        ((0.5, 0.95, 0.9), True, 100, BEYOND),
        ((0.5, 0.4, 0.9), True, 0, BEHIND),
        ((0.5, 0.6, 0.48), True, None, NO_WAY),
        ((0.5, 0.5, 0.5), True, None, NO_WAY),
        ((0.3, 0.2, 0.1), False, 50, ""),
        ((0.3, 0.05, 0.1), False, 100, BEYOND),
        ((0.3, 0.4, 0.1), False, 0, BEHIND),
        ((0.1, 0.2, 0.3), False, None, NO_WAY),
        ((np.nan, 0.2, 0.3), True, None, ""),
    ],
)
def test_a_way_never_leaves_its_ends_without_a_word(
    scores: tuple[float, float, float], up: bool, share: float | None, note: str
) -> None:
    found = way(*scores, None, up=up, heldout=500)
    assert found.share == (share if share is None else pytest.approx(share))
    assert found.note == note
    assert bool(found.verdict) == (share is not None)
    assert way(*scores, None, up=up, heldout=37).words == note


def test_too_few_pairs_is_one_sentence(schema: Schema, make_pairs: MakePairs) -> None:
    pairs = make_pairs(20, 0)
    few = make_pairs(3, 1)
    with pytest.raises(ValueError, match="at least 10 rows"):
        evaluate(pairs, pairs, few, pairs.codes, schema, make_extractor("pixels"), 0)
