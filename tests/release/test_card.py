"""The data card: front matter for machines, the promise in words and figures that are bounds."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import yaml

from dagster_project.data.schema import Schema
from dagster_project.privacy.accounting import true_positive_rates
from dagster_project.privacy.plan import Plan
from dagster_project.release.card import write_card
from tests.release.samples import make_schema


def split(card: str) -> tuple[dict[str, Any], str]:
    _, front, body = card.split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_names_the_data_files_and_a_licence_that_the_hub_takes(
    manifest: dict[str, Any], schema: Schema
) -> None:
    def front(**sampling: Any) -> dict[str, Any]:
        asked = manifest | {"sampling": manifest["sampling"] | sampling}
        return split(write_card(asked, schema))[0]

    found = front(licence="cc-by-4.0")
    assert found["license"] == "cc-by-4.0" and found["size_categories"] == ["n<1K"]
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert found["dataset_info"]["features"] == [
        {"name": "image", "dtype": "image"},
        {
            "name": "kind of thing",
            "dtype": {"class_label": {"names": {"0": "a|b", "1": "ü", "2": "c"}}},
        },
        {"name": "weight", "dtype": "float64"},
    ]
    assert front(n=2_000_000)["size_categories"] == ["1M<n<10M"]
    assert front()["license"] == "unknown"
    own = front(licence="Terms of St. Mary's, 2026")
    assert own["license"] == "other"
    assert re.fullmatch(r"[a-z0-9.-]+", own["license_name"])


def test_promise_columns_and_mechanisms_are_told(manifest: dict[str, Any], schema: Schema) -> None:
    _, body = split(write_card(manifest, schema))
    epsilon = manifest["privacy"]["epsilon"]
    assert f"ε = {epsilon:.4g}, δ = 1e-05" in body
    assert "| `kind of thing` | categorical | a\\|b, ü, c |\n" in body
    assert "| `weight` | numeric | 0 to 10, in 3 bins, or missing |\n" in body
    assert "| table_model.measurement | discrete Gaussian noise | 15 |  | 5 |\n" in body
    assert "| image_model | Gaussian noise on Poisson samples | 2 | 0.05 | 40 |\n" in body
    assert "| table_model.selection | exponential selection | ε = 0.02 each |  | 3 |\n" in body
    assert "No public quality metrics" in body


def test_a_public_network_is_named_where_it_was_used(
    manifest: dict[str, Any], schema: Schema
) -> None:
    def told(changed: dict[str, Any]) -> bool:
        return "EfficientNet-Lite1" in write_card(changed, schema)

    seen = manifest | {"settings": {"mean_pairs": {"perceptual_share": 0.5}}}
    assert told(seen) and not told(manifest)
    assert not told(seen | {"settings": {"mean_pairs": {"perceptual_share": 0.0}}})
    spent = [m for m in seen["privacy"]["mechanisms"] if m["name"] != "mean_pairs"]
    assert not told(seen | {"privacy": seen["privacy"] | {"mechanisms": spent}})


def test_quality_is_a_table(manifest: dict[str, Any], schema: Schema) -> None:
    row = {"clique": ["kind of thing", "weight"], "cells": 12, "tvd": 0.03, "expected_tvd": 0.02}
    quality = {"cliques": [row], "mean_tvd": 0.03, "mean_expected_tvd": 0.02}
    _, body = split(write_card(manifest, schema, quality))
    assert "| kind of thing × weight | 12 | 0.0300 | 0.0200 |\n" in body
    assert "**0.0300**" in body


def test_tables_end_before_the_next_text(manifest: dict[str, Any], schema: Schema) -> None:
    """Without an empty line Markdown takes the text for one more row, or a heading for text."""
    row = {"clique": ["weight"], "cells": 4, "tvd": 0.03, "expected_tvd": 0.02}
    quality = {"cliques": [row], "mean_tvd": 0.03, "mean_expected_tvd": 0.02}
    for card in (write_card(manifest, schema), write_card(manifest, schema, quality)):
        lines = split(card)[1].splitlines()
        for line, following in itertools.pairwise(lines):
            assert not line.startswith("|") or following.startswith("|") or not following
            assert not following.startswith("#") or not line
        assert "\n\n\n" not in card


def test_guess_bounds_are_those_of_the_promise(manifest: dict[str, Any], schema: Schema) -> None:
    curve = [{"false_positives": 0.01, "true_positives": 0.15551}]
    promise = {"epsilon": 3.0, "delta": 0.0, "trade_off": curve}
    manifest = {**manifest, "privacy": {**manifest["privacy"], **promise}}
    _, body = split(write_card(manifest, schema))
    assert "most 21 times as likely" in body  # e^3 = 20.1, rounded up
    assert "at most 95.3 %" in body
    assert "| 1 % | 15.56 % |\n" in body


def test_what_an_attacker_gains_is_the_curve_of_the_events(
    manifest: dict[str, Any], schema: Schema, plan: Plan
) -> None:
    """By (epsilon, delta) alone the table could not say so little."""
    _, body = split(write_card(manifest, schema))
    (power,) = true_positive_rates(plan.events, [0.01], discretization=plan.discretization)
    by_epsilon = math.exp(plan.epsilon) * 0.01 + plan.target_delta
    assert power < by_epsilon / 1.3
    assert f"| 1 % | {math.ceil(power * 1e4) / 100:g} % |\n" in body
    rows = re.findall(r"^\| ([\d.]+) % \| ([\d.]+) % \|$", body, flags=re.MULTILINE)
    assert [float(rate) for rate, _ in rows] == [0.1, 1, 5, 10, 50]
    assert all(float(rate) <= float(found) <= 100 for rate, found in rows)


def test_columns_are_told_as_they_are_released(manifest: dict[str, Any]) -> None:
    attributes = {
        "stay": {"kind": "numeric", "edges": [0, 5, 30], "integer": True, "missing": True},
        "visit": {"kind": "date", "edges": ["2015-01-01", "2020-01-01", "2024-01-01"]},
        "seen": {"kind": "age", "unit": "years", "edges": [0, 40, 120]},
        "smoker": {"kind": "boolean", "column": "Smoker?"},
        "finding": {"kind": "labels", "labels": ["mass", "scar"], "none": "clear"},
    }
    body = split(write_card(manifest, make_schema(attributes=attributes)))[1]
    for row in (
        "| `stay` | numeric | 0 to 30, in 2 bins, whole numbers, or missing |",
        "| `visit` | date | 2015-01-01 to 2024-01-01, in 2 bins |",
        "| `seen` | age | 0 to 120 years, in 2 bins |",
        "| `Smoker?` | boolean | false, true |",
        "| `finding` | labels | any of mass, scar, with \\| between them, or clear |",
    ):
        assert f"{row}\n" in body
    assert body.count("`finding`") == 1
