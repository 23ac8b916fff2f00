"""All mechanisms of a release, and the division of the budget among them.

Each mechanism has a share of the budget in the recipe; one without a share is not in the plan, and
its stage spends nothing. To add a mechanism, write a class (`privacy.mechanism`) beside the code of
what it releases, add a line to `MECHANISMS` and, if it has a share of its own, a field to
`BudgetSplit`. `planner` solves the scale for epsilon and delta.
"""

from __future__ import annotations

from collections.abc import Callable

from dagster_project.data.schema import Schema
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.image.mean_pairs import CellSums
from dagster_project.privacy import plan
from dagster_project.privacy.mechanism import Mechanism
from dagster_project.public_data.query import LabelCounts
from dagster_project.settings.recipe import Recipe
from dagster_project.table.measurements import TableMeasurement, TableSelection
from dagster_project.table.minimum_people import MinimumPeople

# In the order of the stages.
MECHANISMS: tuple[type[Mechanism], ...] = (
    MinimumPeople,
    TableSelection,
    TableMeasurement,
    LabelCounts,
    CellSums,
    DPSGD,
)

Mechanisms = Callable[[Schema, Recipe, float], tuple[plan.PlannedMechanism, ...]]


def mechanisms(
    schema: Schema, recipe: Recipe, mu: float, training: float | None = None
) -> tuple[plan.PlannedMechanism, ...]:
    """Return everything that touches private data, with its noise for a given `mu`.

    Args:
        schema: The public contract.
        recipe: Public settings.
        mu: Gaussian-DP parameter of the whole plan, divided by the recipe's budget split.
        training: What DP-SGD's noise is for, with the same share, instead of `mu`.
    """
    shares, found = effective_split(recipe, mu), []
    for kind in MECHANISMS:
        scale = training if training is not None and kind is DPSGD else mu
        mechanism = kind.from_budget(schema, recipe, mu=scale, share=shares[kind.part])
        if mechanism:
            found.append(mechanism.entry())
    return tuple(found)


def effective_split(recipe: Recipe, mu: float) -> dict[str, float]:
    """Return each part's share of mu^2: the recipe's, capped where more would not help.

    Noise below `min_noise_multiplier` gains nothing in the semantic query and the mean pairs, so at
    a large epsilon the rest of their shares goes to DP-SGD, which can use it. Without DP-SGD the
    table gets it, because the planner raises mu until the budget is met.
    """
    shares = recipe.budget_split.model_dump()
    total = sum(shares.values())
    parts = {name: value / total for name, value in shares.items()}
    trained = parts["image"] > 0
    for name, least in (
        ("query", recipe.semantic_query.min_noise_multiplier),
        ("pairs", recipe.mean_pairs.min_noise_multiplier),
    ):
        enough = min(parts[name], 1 / (least * mu) ** 2) if least else parts[name]
        if trained:
            parts["image"] += parts[name] - enough
        parts[name] = enough
    return parts
