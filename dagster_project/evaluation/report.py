"""The fidelity report as a single HTML file.

The file contains real images and exact metrics, so it must stay in the private zone. It needs no
script, font or network. The metrics are computed in `fidelity`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from dagster_project.data.pairs import Pairs
from dagster_project.data.persons import LEAST_ROWS
from dagster_project.data.schema import Attribute, Schema
from dagster_project.evaluation.fidelity import evaluate
from dagster_project.evaluation.figures import NOTICE, FidelityReport
from dagster_project.evaluation.intervals import LEAST_FOR_VERDICT, Interval
from dagster_project.evaluation.plots import (
    data_uri,
    image_grid,
    png_bytes,
    rows_by_attribute,
    shares,
)
from dagster_project.evaluation.way import way

__all__ = ["FidelityReport", "evaluate", "render_few", "render_html"]

_TEMPLATE, _FEW = "report.html.j2", "few.html.j2"
_MOST_VALUES = 12  # values shown per attribute, the most frequent ones
_FURTHEST = 10  # pairs of attributes listed
_WIDE_VALUES = 7  # an attribute with this many values gets the full page width


def render_html(
    report: FidelityReport,
    real: Pairs,
    synthetic: Pairs,
    schema: Schema,
    mechanisms: Sequence[Mapping[str, Any]],
    out_path: str | Path,
    became: Sequence[str] = (),
) -> None:
    """Write the report as a self-contained HTML file that only its owner can read.

    Args:
        report: The metrics.
        real: Held-out real pairs, shown beside the synthetic ones.
        synthetic: The released pairs.
        schema: The schema of both.
        mechanisms: One row for each mechanism that spent budget; the keys of the first row are
            the table's headings.
        out_path: The HTML file.
        became: What became of the rows (`rows_read`), the first lines of the page.
    """
    environment = _environment()
    environment.filters |= {"figure": _figure, "entry": _entry, "ends": _ends}
    html = environment.get_template(_TEMPLATE).render(
        report=report,
        schema=schema,
        notice=NOTICE,
        images=[_images(a, real, synthetic, schema) for a in schema.attributes],
        marginals=[_marginal(a, i, real, synthetic) for i, a in enumerate(schema.attributes)],
        heat=max([0.05, *(value for row in report.tvd_pairs for value in row)]),
        furthest=_furthest(report, schema),
        mechanisms=list(mechanisms),
        way_of=partial(way, heldout=report.rows["heldout"]),
        least_for_verdict=LEAST_FOR_VERDICT,
        became=list(became),
    )
    _write(html, out_path)


def render_few(became: Sequence[str], schema: Schema, out_path: str | Path) -> None:
    """Write the page of a release with too few people for a comparison; see `render_html`."""
    page = _environment().get_template(_FEW)
    _write(page.render(name=schema.name, became=list(became), least=LEAST_ROWS), out_path)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _write(html: str, out_path: str | Path) -> None:
    # The file contains real images, which other accounts of the machine must not read.
    descriptor = os.open(out_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(html)


def _frequent(column: np.ndarray, attribute: Attribute) -> list[int]:
    """Return the cells to show, in schema order: the most frequent in the held-out pairs."""
    order = np.argsort(-shares(column, attribute.size), kind="stable")
    return sorted(int(j) for j in order[:_MOST_VALUES])


def _images(attribute: Attribute, real: Pairs, synthetic: Pairs, schema: Schema) -> dict:
    i = schema.names.index(attribute.name)
    wide = attribute.size >= _WIDE_VALUES or len(schema.attributes) == 1
    columns = 10 if wide else 5

    def strips(pairs: Pairs) -> list[str | None]:
        rows = rows_by_attribute(pairs.codes, schema, attribute.name, columns)
        return [
            data_uri(png_bytes(image_grid(pairs.images[found], columns, scale=1, clear=True)))
            if len(found)
            else None
            for _, found in rows
        ]

    left, right = strips(real), strips(synthetic)
    cells = _frequent(np.asarray(real.codes)[:, i], attribute)
    return {
        "name": attribute.name,
        "wide": wide,
        "hidden": attribute.size - len(cells),
        "rows": [(attribute.labels[j], left[j], right[j]) for j in cells],
    }


def _marginal(attribute: Attribute, i: int, real: Pairs, synthetic: Pairs) -> dict:
    a, b = (shares(np.asarray(pairs.codes)[:, i], attribute.size) for pairs in (real, synthetic))
    cells = _frequent(np.asarray(real.codes)[:, i], attribute)
    return {
        "name": attribute.name,
        "top": max(float(max(a.max(), b.max())), 1e-9),
        "rows": [(attribute.labels[j], float(a[j]), float(b[j])) for j in cells],
    }


def _furthest(report: FidelityReport, schema: Schema) -> list[tuple[str, float]]:
    """Return the pairs of attributes with the largest distances, largest first."""
    pairs = [
        (f"{schema.names[i]} × {schema.names[j]}", report.tvd_pairs[i][j])
        for j in range(len(schema.names))
        for i in range(j)
    ]
    return sorted(pairs, key=lambda pair: -pair[1])[:_FURTHEST]


def _figure(value: float | None, digits: int = 2) -> str:
    """Format a number for the page; a dash if there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}".replace("-", "−")


def _ends(ends: Interval | None, digits: int = 2) -> str:
    """Format an interval for the page; nothing if there is none."""
    return f"{_figure(ends[0], digits)} to {_figure(ends[1], digits)}" if ends else ""


def _entry(value: object) -> str:
    """Format a cell of the table of mechanisms."""
    if isinstance(value, float):
        return f"{value:,.4g}".replace("e-0", "e-")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "–" if value is None else str(value)
