"""From public settings, epsilon and delta to a plan: every noise scale solved, nothing read.

The plan's events are composed jointly; one scalar divides the budget by the recipe's shares and
is solved so that the joint privacy loss distribution meets epsilon. Rules that fill in settings
from public numbers stand here with their grounds.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dagster_project.privacy import accounting, calibration
from dagster_project.privacy.events import (
    DiscreteGaussian,
    Event,
    Gaussian,
    PoissonSampledGaussian,
    PureDP,
)
from dagster_project.privacy.plan import Mechanism, Plan, canonical_json
from dagster_project.recipe import Recipe
from dagster_project.table.aim import aim_counts, recommended_rounds
from dagster_project.table.measurements import MechanismCounts
from dagster_project.table.mst import mst_counts
from dagster_project.table.schema import Schema

DISCRETIZATION = 1e-4
Mechanisms = Callable[[Schema, Recipe, float], tuple[Mechanism, ...]]
_ENOUGH = 1.5  # noise multiplier of the mean pairs under which less noise buys nothing


def table_counts(schema: Schema, recipe: Recipe) -> MechanismCounts:
    """How often the table model measures and selects."""
    d = len(schema.attributes)
    if recipe.table.method == "mst":
        return mst_counts(d)
    # Where the rounds are still open: 2.5 for each attribute, the most the rule ever asks for.
    rounds = recipe.table.rounds or min(d * (d - 1) // 2, math.ceil(2.5 * d))
    return aim_counts(d, rounds)


def dp_sgd_steps(target_epsilon: float) -> int:
    """Steps of DP-SGD, when the recipe does not say: 60 up to epsilon 3, 120 from 6 on.

    At a small epsilon the warm-up carries the alignment and further steps add as much noise as
    signal (their ratio grows with the square root of the steps, and the noise of a step with it);
    at a large one each step still improves the pictures, and time is the limit.
    """
    return round(60 * min(max(target_epsilon / 3, 1), 2))


def mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism, ...]:
    """Everything that touches private data, with the noise that the scalar `mu` gives.

    Args:
        schema: The public contract.
        recipe: Public settings.
        mu: Gaussian-DP parameter of the whole plan, divided by the recipe's shares.
    """
    return (
        *_table_mechanisms(schema, recipe, mu),
        _mean_pairs_mechanism(schema, recipe, mu),
        _image_mechanism(schema, recipe, mu),
    )


def build_plan(
    schema: Schema,
    recipe: Recipe,
    *,
    name: str,
    target_epsilon: float,
    target_delta: float,
    population: str,
    data_version: str,
    code_version: str,
    identity_key: bytes,
    block: str = "all",
    n_public: int | None = None,
    mechanisms: Mechanisms = mechanisms,
) -> Plan:
    """Solves all noise and fixes the plan. Reads no record and writes nothing.

    The release id is the name and a keyed hash of all that decides the release, so that the same
    request finds the same reservation, and any change of data, schema, code or setting is new.
    The key keeps the public id from confirming a guess of the private data's version.

    Args:
        block: The cohort of people whose records are read and who pay; "all" is everybody.
        n_public: Public number of its people, where that is not the schema's.
        mechanisms: What touches private data at a scale mu, for systems with mechanisms of their
            own; their names decide the release's identity with the recipe.

    Raises:
        ValueError: Epsilon or delta out of range, or no noise meets them.
    """
    people = replace(schema, n_public=n_public) if n_public is not None else schema
    if recipe.dp_sgd.steps is None:
        recipe = recipe.changed({"dp_sgd.steps": dp_sgd_steps(target_epsilon)})
    recipe = _with_rounds(people, recipe, target_epsilon, target_delta, mechanisms)
    solved = tuple(
        replace(mechanism, block=block)
        for mechanism in _solve(people, recipe, target_epsilon, target_delta, mechanisms)
    )
    events = [m.event for m in solved]
    settings = recipe.model_dump(mode="json")
    identity: dict[str, Any] = {
        "population": population,
        "data_version": data_version,
        "schema_hash": schema.hash,
        "code_version": code_version,
        "epsilon": target_epsilon,
        "delta": target_delta,
        "block": block,
        "n_public": people.n_public,
        "mechanisms": [mechanism.name for mechanism in solved],
        "recipe": settings,
    }
    return Plan(
        release_id=f"{name}-{_keyed_hash(identity_key, identity)[:10]}",
        population=population,
        data_version=data_version,
        schema_hash=schema.hash,
        code_version=code_version,
        target_epsilon=target_epsilon,
        target_delta=target_delta,
        n_public=people.n_public,
        discretization=DISCRETIZATION,
        mechanisms=solved,
        composed_epsilon=accounting.epsilon(
            events, target_delta=target_delta, discretization=DISCRETIZATION
        ),
        epsilon_prv=accounting.epsilon_prv(events, target_delta=target_delta),
        recipe=settings,
    )


def _solve(
    schema: Schema,
    recipe: Recipe,
    target_epsilon: float,
    target_delta: float,
    mechanisms: Mechanisms,
) -> tuple[Mechanism, ...]:
    def events_of(mu: float) -> Sequence[Event]:
        return [m.event for m in mechanisms(schema, recipe, mu)]

    mu = calibration.calibrate(
        events_of,
        target_epsilon=target_epsilon,
        target_delta=target_delta,
        discretization=DISCRETIZATION,
    )
    return mechanisms(schema, recipe, mu)


def _with_rounds(
    schema: Schema,
    recipe: Recipe,
    target_epsilon: float,
    target_delta: float,
    mechanisms: Mechanisms,
) -> Recipe:
    """The recipe with the table model's rounds filled in by `recommended_rounds`.

    The rule wants the noise of a marginal, which depends on the rounds in turn: one pass from
    the most rounds is enough. Without a table model there is nothing to fill in.
    """
    if recipe.table.method == "mst" or recipe.table.rounds is not None:
        return recipe
    most = recipe.changed({"table.rounds": table_counts(schema, recipe).selections})
    first = _solve(schema, most, target_epsilon, target_delta, mechanisms)
    sigma = next((m.declared["sigma"] for m in first if m.name == "table_model.measurement"), None)
    if sigma is None:
        return recipe
    rounds = recommended_rounds(schema.sizes, n_public=schema.n_public, sigma=sigma)
    return recipe.changed({"table.rounds": rounds})


def _keyed_hash(key: bytes, identity: dict[str, Any]) -> str:
    return hmac.new(key, canonical_json(identity).encode(), hashlib.sha256).hexdigest()


def _share(recipe: Recipe, part: str, mu: float) -> float:
    """A part's share of mu^2: the recipe's, but no more for the mean pairs than does any good.

    Features and generator limit the warm-up once the noise multiplier is under 1.5; what is left
    at a large epsilon goes to DP-SGD, which can use it.
    """
    shares = recipe.shares.model_dump()
    total = sum(shares.values())
    enough = min(shares["pairs"] / total, 1 / (_ENOUGH * mu) ** 2)
    if part == "pairs":
        return enough
    rest = shares["pairs"] / total - enough if part == "image" else 0.0
    return shares[part] / total + rest


def _table_mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[Mechanism, Mechanism]:
    counts, share = table_counts(schema, recipe), _share(recipe, "table", mu)
    selection_share = share * recipe.table.selection_share
    epsilon = calibration.selection_epsilon(mu=mu, share=selection_share, count=counts.selections)
    sigma = calibration.gaussian_noise_multiplier(
        mu=mu, share=share - selection_share, count=counts.measurements
    )
    return (
        Mechanism(
            name="table_model.selection",
            stage="table_model",
            event=PureDP(epsilon=epsilon, count=counts.selections),
            declared={
                "method": recipe.table.method,
                "epsilon": epsilon,
                "rounds": counts.selections,
            },
        ),
        Mechanism(
            name="table_model.measurement",
            stage="table_model",
            event=DiscreteGaussian(sigma=sigma, count=counts.measurements),
            declared={"sigma": sigma, "sensitivity": 1, "marginals": counts.measurements},
        ),
    )


def _mean_pairs_mechanism(schema: Schema, recipe: Recipe, mu: float) -> Mechanism:
    rate, share = recipe.mean_pairs.sample_rate, _share(recipe, "pairs", mu)
    event: Event
    if rate == 1:
        noise = calibration.gaussian_noise_multiplier(mu=mu, share=share)
        event = Gaussian(noise_multiplier=noise)
    else:
        noise = calibration.sampled_noise_multiplier(mu=mu, share=share, sample_rate=rate, steps=1)
        event = PoissonSampledGaussian(noise_multiplier=noise, sample_rate=rate)
    return Mechanism(
        name="mean_pairs",
        stage="mean_pairs",
        event=event,
        declared={
            "noise_multiplier": noise,
            "sample_rate": rate,
            "clip_norm": 1,
            "attributes": len(schema.attributes),
            "sampler": "poisson",
        },
    )


def _image_mechanism(schema: Schema, recipe: Recipe, mu: float) -> Mechanism:
    sgd = recipe.dp_sgd
    if sgd.steps is None:
        raise ValueError("the steps of DP-SGD are not fixed yet")
    rate = min(1.0, sgd.batch / schema.n_public)
    # The noise must pay for every step that may run, the replays after a crash included.
    replay_steps = sgd.replays * min(sgd.checkpoint_steps, sgd.steps)
    noise = calibration.sampled_noise_multiplier(
        mu=mu, share=_share(recipe, "image", mu), sample_rate=rate, steps=sgd.steps + replay_steps
    )
    return Mechanism(
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
