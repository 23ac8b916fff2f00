"""From a recipe and one scale of noise to everything that touches private data.

Each mechanism has a share of the budget in the recipe; one with no share is not in the plan, and
its stage spends nothing. Solving the scale for epsilon and delta does not belong here (`planning`),
nor do the mechanisms themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from dagster_project.privacy import calibration
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.plan import Mechanism
from dagster_project.recipe import Recipe
from dagster_project.table.aim import aim_counts
from dagster_project.table.measurements import MechanismCounts
from dagster_project.table.mst import mst_counts
from dagster_project.table.schema import Schema

Mechanisms = Callable[[Schema, Recipe, float], tuple[Mechanism, ...]]


def mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism, ...]:
    """Everything that touches private data, with the noise that the scalar `mu` gives.

    Args:
        schema: The public contract.
        recipe: Public settings.
        mu: Gaussian-DP parameter of the whole plan, divided by the recipe's shares.
    """
    shares = recipe.shares.model_dump()
    return tuple(
        mechanism
        for part, build in _BUILDERS.items()
        if shares[part] > 0
        for mechanism in build(schema, recipe, mu)
    )


def table_sizes(schema: Schema, recipe: Recipe) -> tuple[int, ...]:
    """Cells of the table's columns, the hidden one of public labels included."""
    return (*schema.sizes, recipe.label_cells) if recipe.label_cells else schema.sizes


def table_counts(schema: Schema, recipe: Recipe) -> MechanismCounts:
    """How often the table model measures and selects."""
    d = len(table_sizes(schema, recipe))
    if recipe.table.method == "mst":
        return mst_counts(d)
    # Where the rounds are still open: 2.5 for each attribute, the most the rule ever asks for.
    rounds = recipe.table.rounds
    if rounds is None:
        rounds = min(d * (d - 1) // 2, math.ceil(2.5 * d))
    return aim_counts(d, rounds)


def share(recipe: Recipe, part: str, mu: float) -> float:
    """A part's share of mu^2: the recipe's, but no more than does any good.

    Less noise than `least_noise` buys nothing in the semantic query and in the mean pairs; what is
    left of their shares at a large epsilon goes to DP-SGD, which can use it. Where there is no
    DP-SGD the table gets it: the planner raises mu until the budget is met.
    """
    shares = recipe.shares.model_dump()
    total = sum(shares.values())
    parts = {name: value / total for name, value in shares.items()}
    for name, least in (
        ("query", recipe.semantic_query.least_noise),
        ("pairs", recipe.mean_pairs.least_noise),
    ):
        enough = min(parts[name], 1 / (least * mu) ** 2) if least else parts[name]
        parts["image"] += parts[name] - enough
        parts[name] = enough
    return parts[part]


def _table_mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism, ...]:
    counts, part = table_counts(schema, recipe), share(recipe, "table", mu)
    # A table of one column has no pairs to select: all of the share measures it.
    selection_share = part * recipe.table.selection_share if counts.selections else 0.0
    sigma = calibration.gaussian_noise_multiplier(
        mu=mu, share=part - selection_share, count=counts.measurements
    )
    measurement = Mechanism(
        name="table_model.measurement",
        stage="table_model",
        event=DiscreteGaussian(sigma=sigma, count=counts.measurements),
        declared={"sigma": sigma, "sensitivity": 1, "marginals": counts.measurements},
    )
    if not counts.selections:
        return (measurement,)
    epsilon = calibration.selection_epsilon(mu=mu, share=selection_share, count=counts.selections)
    selection = Mechanism(
        name="table_model.selection",
        stage="table_model",
        event=BoundedRange(epsilon=epsilon, count=counts.selections),
        declared={
            "method": recipe.table.method,
            "epsilon": epsilon,
            "rounds": counts.selections,
        },
    )
    return (selection, measurement)


def _query_mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism]:
    noise = calibration.gaussian_noise_multiplier(mu=mu, share=share(recipe, "query", mu))
    mechanism = Mechanism(
        name="semantic_query",
        stage="semantic_query",
        event=Gaussian(noise_multiplier=noise),
        declared={
            "noise_multiplier": noise,
            "attributes": len(schema.attributes),
            "top_k": recipe.semantic_query.top_k,
        },
    )
    return (mechanism,)


def _mean_pairs_mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism]:
    settings, part = recipe.mean_pairs, share(recipe, "pairs", mu)
    rate = settings.sample_rate
    noise = calibration.sampled_noise_multiplier(mu=mu, share=part, sample_rate=rate, steps=1)
    event: Event = Gaussian(noise_multiplier=noise)
    if rate < 1:
        event = PoissonSampledGaussian(noise_multiplier=noise, sample_rate=rate)
    declared = {
        "noise_multiplier": noise,
        "sample_rate": rate,
        "clip_norm": 1,
        "attributes": len(schema.attributes),
        "sampler": "poisson",
    }
    if settings.counts == "noisy":
        declared["noisy_counts"] = True
    return (Mechanism(name="mean_pairs", stage="mean_pairs", event=event, declared=declared),)


def _image_mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism]:
    sgd = recipe.dp_sgd
    if sgd.steps is None:
        raise ValueError("the steps of DP-SGD are not fixed yet")
    rate = min(1.0, sgd.batch / schema.n_public)
    # The noise must pay for every step that may run, the replays after a crash included.
    replay_steps = sgd.replays * min(sgd.checkpoint_steps, sgd.steps)
    noise = calibration.sampled_noise_multiplier(
        mu=mu, share=share(recipe, "image", mu), sample_rate=rate, steps=sgd.steps + replay_steps
    )
    mechanism = Mechanism(
        name="image_model",
        stage="image_model",
        event=PoissonSampledGaussian(
            noise_multiplier=noise, sample_rate=rate, count=sgd.steps + replay_steps
        ),
        declared={
            "noise_multiplier": noise,
            "max_grad_norm": sgd.max_grad_norm,
            "sample_rate": rate,
            "expected_batch_size": rate * schema.n_public,
            "steps": sgd.steps,
            "replay_steps": replay_steps,
            "sampler": "poisson",
            "divisor": "expected_batch_size",
        },
    )
    return (mechanism,)


# In the data's order. A mechanism with a share of its own is one more line here and in `Shares`.
_BUILDERS: dict[str, Mechanisms] = {
    "table": _table_mechanisms,
    "query": _query_mechanisms,
    "pairs": _mean_pairs_mechanisms,
    "image": _image_mechanisms,
}
