"""A chain and the account as one self-contained HTML page that loads nothing from outside.

Its content comes from `lineage`, its figure from `timeline_figure`; the layout is a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dagster_project.ledger import gdp_filter, timeline_figure
from dagster_project.ledger.lineage import public_view


def render_html(
    chain: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, public: bool = False
) -> str:
    """Return the page.

    Args:
        chain: From `lineage.trace`.
        rows: From `lineage.timeline`.
        public: Whether to leave out what is itself private.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dagster_project.ledger", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": _short, "percent": gdp_filter.percent}
    shown = public_view(chain) if public else dict(chain)
    page = environment.get_template("lineage.html.j2")
    return page.render(chain=shown, figure=timeline_figure.svg(rows))


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
