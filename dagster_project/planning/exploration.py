"""What releases at several values of epsilon would give and cost, from public numbers alone.

Nothing is read, reserved or written; the ledger, where there is one, is only asked what is left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dagster_project.ledger import gdp_filter, pricing
from dagster_project.planning.measured import MEASURED_ON, Measurement, beside, in_words
from dagster_project.planning.planner import build_plan
from dagster_project.privacy import accounting
from dagster_project.release.verdict import Verdict, judge
from dagster_project.table.measurements import TableMeasurement

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.ledger.population import Population
    from dagster_project.privacy.plan import Plan
    from dagster_project.settings.recipe import Recipe

EPSILONS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0)
_GRID = 1e-3  # coarser than a plan's, which changes no figure that is shown


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What one release would give and cost.

    Attributes:
        epsilon: Its epsilon.
        one_way, two_way: Expected total variation distance of a count table of one attribute, or of
            two, that noise alone causes (0 is exact, 1 is noise).
        verdict: Whether it will serve as pictures.
        measured: How far pairs went towards real ones on public data at a similar plan, the nearest
            plan first.
        dp_sgd_steps: Steps of DP-SGD; 0 if the budget is better spent otherwise.
        right_guess: Largest probability of a right guess, from an even chance, of whether a person
            was in the data.
        true_positives: Largest true positive rate of a membership test at 1 % false positives.
        share: Share of the lifetime budget that it takes; infinite if no noise makes it finite.
        fits: Whether it fits now.
        such_releases: How many like it fit now.
        releases_left: How many at epsilon 1 fit after it.
    """

    epsilon: float
    one_way: float
    two_way: float
    verdict: Verdict
    measured: tuple[Measurement, ...]
    dp_sgd_steps: int
    right_guess: float
    true_positives: float
    share: float
    fits: bool
    such_releases: int
    releases_left: int

    def to_json(self) -> dict[str, Any]:
        """Return the outlook as plain JSON."""
        measured = [asdict(one) | {"way": round(one.way, 3)} for one in self.measured]
        return asdict(self) | {"verdict": self.verdict.to_json(), "measured": measured}


def explore(
    schema: Schema,
    population: Population,
    recipe: Recipe,
    *,
    delta: float,
    spent: float = 0.0,
    n_public: int | None = None,
    epsilons: Sequence[float] = EPSILONS,
) -> tuple[Outlook, ...]:
    """Return the outlook of a release at each epsilon, leaving out those that no plan meets.

    Args:
        schema: The public contract.
        population: The people, with their lifetime budget.
        recipe: Public settings.
        delta: Delta of the releases.
        spent: What the cohort with the least left has spent (a sum of costs, see `gdp_filter`).
        n_public: Public number of people, if it differs from the schema's.
        epsilons: Values to compare.

    Raises:
        ValueError: If delta or a setting is out of range.
    """
    fixed, found = population.fixed(), []
    for epsilon in epsilons:
        plan = build_plan(
            schema,
            recipe,
            name="explored",
            target_epsilon=epsilon,
            target_delta=delta,
            population=population.name,
            data_version="unread",
            code_version="unread",
            identity_key=bytes(32),  # the release's id is not shown
            n_public=n_public,
            second_opinion=False,
            discretization=_GRID,
        )
        found.append(_outlook(plan, schema, fixed, spent))
    return tuple(found)


def _outlook(plan: Plan, schema: Schema, fixed: Mapping[str, Any], spent: float) -> Outlook:
    epsilon, delta = plan.target_epsilon, plan.target_delta
    cost, remaining = pricing.cost(plan, fixed), fixed["cap"] - spent
    one_way, two_way = table_errors(plan, schema)
    (power,) = accounting.true_positive_rates(
        plan.events, [0.01], discretization=plan.discretization
    )
    verdict = judge(
        schema,
        n_public=plan.n_public,
        epsilon=epsilon,
        settings=plan.recipe,
        mechanisms=[item.to_json() for item in plan.mechanisms],
    )
    steps = [item.declared["steps"] for item in plan.mechanisms if item.name == "image_model"]
    return Outlook(
        epsilon=epsilon,
        one_way=one_way,
        two_way=two_way,
        verdict=verdict,
        measured=beside(plan.n_public, epsilon, plan.recipe),
        dp_sgd_steps=sum(steps),
        right_guess=(math.exp(epsilon) + delta) / (1 + math.exp(epsilon)),
        true_positives=power,
        share=cost / fixed["cap"],
        fits=cost <= remaining,
        such_releases=math.floor(remaining / cost),
        releases_left=gdp_filter.releases_left(
            remaining - cost, target_delta=fixed["target_delta"]
        ),
    )


def table_errors(plan: Plan, schema: Schema) -> tuple[float, float]:
    """Return the mean over attributes, and over pairs of them, of the total variation distance
    that the noise of one measurement causes: cells * sigma * sqrt(2 / pi) / (2 people), at most 1.

    Both assume that the table is measured; AIM leaves out pairs that others explain well.
    """
    sigma = plan.mechanism(TableMeasurement.name).declared["sigma"]
    unit = sigma * math.sqrt(2 / math.pi) / (2 * plan.n_public)
    pairs = [a * b for a, b in itertools.combinations(schema.sizes, 2)] or list(schema.sizes)
    one, two = (
        sum(min(1.0, cells * unit) for cells in some) / len(some) for some in (schema.sizes, pairs)
    )
    return one, two


COLUMNS = (
    ("epsilon", "ε"),
    ("table", "table error (one / two attributes)"),
    ("noise", "noise of pictures"),
    ("verdict", "verdict"),
    ("measured", "way to real pairs on public data"),
    ("steps", "DP-SGD steps"),
    ("guess", "right guess from an even chance"),
    ("power", "found at 1 % false accusations"),
    ("share", "of the lifetime budget"),
    ("such", "such releases fit"),
    ("left", "at ε = 1 fit afterwards"),
)


def row(one: Outlook) -> dict[str, str]:
    """Return the cells of a table for people, by the names in `COLUMNS`."""
    noise = one.verdict.noise
    return {
        "epsilon": f"{one.epsilon:g}",
        "table": f"{one.one_way:.3f} / {one.two_way:.3f}",
        "noise": f"{noise:.1f} × contrast" if noise is not None else "not measured",
        "verdict": str(one.verdict),
        "measured": in_words(one.measured),
        "steps": f"{one.dp_sgd_steps:,}",
        "guess": gdp_filter.percent(one.right_guess),
        "power": gdp_filter.percent(one.true_positives),
        "share": gdp_filter.percent(one.share),
        "such": f"{one.such_releases:,}",
        "left": f"{one.releases_left:,}",
    }


def conclusion(outlooks: Sequence[Outlook]) -> str:
    """Return one or two sentences on which epsilon serves."""
    fitting = [one for one in outlooks if one.fits]
    if not fitting:
        return "None of these releases fits the lifetime budget that is left."
    serving = next((one for one in fitting if one.verdict.level == "will serve"), None)
    if serving is not None:
        return f"From epsilon {serving.epsilon:g} on, a release will serve as pictures."
    maybe = next((one for one in fitting if one.verdict.level == "may serve"), None)
    if maybe is not None:
        return (
            f"From epsilon {maybe.epsilon:g} on, a release may serve as pictures, blurred; none of "
            f"these is clear. {fitting[-1].verdict.reason}"
        )
    return (
        "No release that fits will serve as pictures; its table may still serve. "
        f"{fitting[-1].verdict.reason} More people, fewer attributes or coarser values help."
    )


def as_text(outlooks: Sequence[Outlook]) -> str:
    """Format the outlooks for a terminal."""
    rows = [dict(COLUMNS), *map(row, outlooks)]
    titles = {
        "table": "table error", "noise": "noise of pictures", "steps": "DP-SGD",
        "measured": "way to real pairs",
        "guess": "right guess", "power": "at 1 % FP", "share": "of budget", "such": "fit",
        "left": "ε=1 left",
    }  # fmt: skip
    rows[0] |= titles
    widths = {name: max(len(cells[name]) for cells in rows) for name, _ in COLUMNS}
    lines = [
        "  ".join(cells[name].ljust(widths[name]) for name, _ in COLUMNS).rstrip() for cells in rows
    ]
    legend = (
        "table error: total variation distance of a count of one / two attributes that noise alone "
        "causes\nright guess: of whether a person is in the data, from an even chance; at 1 % FP: "
        "share of those inside\nwho are found by a test that wrongly accuses 1 %; fit: how many "
        f"such releases the lifetime budget holds now\nway to real pairs: of a mean AUC from .5, "
        f"{MEASURED_ON}"
    )
    return "\n".join([*lines, "", conclusion(outlooks), "", legend])


def as_html(outlooks: Sequence[Outlook], *, name: str, n_public: int, delta: float) -> str:
    """Return a self-contained page, light or dark as the reader's system, that loads nothing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dagster_project.planning", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("exploration.html.j2").render(
        name=name,
        n_public=n_public,
        delta=delta,
        columns=COLUMNS,
        rows=[row(one) | {"fits": one.fits} for one in outlooks],
        conclusion=conclusion(outlooks),
        measured_on=MEASURED_ON,
        reasons=[(f"{one.epsilon:g}", one.verdict.reason) for one in outlooks],
    )
