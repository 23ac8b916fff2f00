"""Solves a plan with all its noise scales from public settings, epsilon and delta.

No data are read. The plan's events are composed jointly: one scalar, divided by the recipe's budget
split, is solved so that the joint privacy loss distribution meets epsilon. The rules that fill in
settings from public numbers are here too, with their justification.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dagster_project.data.schema import Schema
from dagster_project.image.dp_sgd import DPSGD
from dagster_project.planning.mechanisms import Mechanisms, effective_split
from dagster_project.planning.mechanisms import mechanisms as all_mechanisms
from dagster_project.privacy import accounting, calibration
from dagster_project.privacy.events import Event, Gaussian
from dagster_project.privacy.plan import Plan, PlannedMechanism, canonical_json
from dagster_project.settings.recipe import Recipe
from dagster_project.table.aim import recommended_rounds
from dagster_project.table.measurements import TableMeasurement, table_counts, table_sizes

DISCRETIZATION = 1e-4
_MOST_STEPS = 120
_LEAST_COARSE_STEPS, _MOST_COARSE_STEPS = 30, 300
_NOISE_OVER_SIGNAL = 1.3
_COARSE_PARAMETERS = 50_000  # of the default coarse network, for about 50 cells
_NOMINAL_DELTA = 1e-6
_COARSE_PRETRAINING = 2000


def dp_sgd_steps(recipe: Recipe, target_epsilon: float, n_public: int) -> int:
    """Return the default number of DP-SGD steps, from epsilon times the number of people.

    What a step learns grows with n epsilon. After pretraining on a generator's images, steps on
    20,000 people made the diffusion model worse. On 60,000 people they helped a little, but the
    model was still behind the generator itself in all but the similarity gap (docs/experiments.md:
    minutes of CPU, up to n epsilon = 1,800,000). Therefore there are no steps up to n epsilon =
    2,000,000, and the other mechanisms get the budget. 15 steps are added for each further
    2,000,000, up to `dp_sgd.most_steps` or 120, which is a judgement. Pretraining from any other
    source teaches less, so DP-SGD gets the most steps.
    """
    most = recipe.dp_sgd.most_steps or _MOST_STEPS
    if recipe.pretraining.source != "generator":
        return most
    signal = target_epsilon * n_public / 2_000_000
    return round(min(max(15 * (signal - 1), 0), most))


def coarse_steps(recipe: Recipe, target_epsilon: float, n_public: int) -> int:
    """Return the default number of DP-SGD steps of the coarse network.

    Over T steps that cost mu sqrt(share) in all, the noise in the mean gradient of a step has a
    standard deviation of about sqrt(T) / (n mu sqrt(share)) in each of P weights, and the signal is
    at most one clipped norm. T is chosen so that the norm of the noise is 1.3 times that, at most
    `dp_sgd.most_steps` or 300, which two cores take two minutes for; P is that of the default
    network, whatever the recipe's is. If that is below 30, the steps are not worth their share, and
    the other mechanisms get the budget (docs/experiments.md, "Steps of DP-SGD").
    """
    tail = math.sqrt(2 * math.log(1 / _NOMINAL_DELTA))
    mu = math.sqrt(tail * tail + 2 * target_epsilon) - tail
    split = recipe.budget_split
    share = split.image / (split.table + split.query + split.pairs + split.image)
    steps = int((_NOISE_OVER_SIGNAL * n_public * mu) ** 2 * share / _COARSE_PARAMETERS)
    if steps < _LEAST_COARSE_STEPS:
        return 0
    return min(steps, recipe.dp_sgd.most_steps or _MOST_COARSE_STEPS)


def pretraining_steps(dp_sgd_steps: int) -> int:
    """Return the default number of pretraining steps: 1100, less the time DP-SGD takes.

    A DP-SGD step takes as long as about ten pretraining steps; at least 600 steps are needed.
    """
    return max(600, 1100 - 10 * dp_sgd_steps)


def with_steps(recipe: Recipe, target_epsilon: float, n_public: int) -> Recipe:
    """Return the recipe with unset steps filled in; without DP-SGD, its share goes to the others.

    Where the generator teaches and there are no public images, two scales draw the images, also
    without DP-SGD: they vary more than the generator's (docs/results.md). Otherwise diffusion draws
    at full size.
    """
    if recipe.sampler.model is None:
        taught = recipe.pretraining.source == "generator" and recipe.public_images.source is None
        recipe = recipe.changed({"sampler.model": "two_scale" if taught else "diffusion"})
    steps = recipe.dp_sgd.steps if recipe.budget_split.image else 0
    if steps is None:
        rule = coarse_steps if recipe.sampler.model == "two_scale" else dp_sgd_steps
        steps = rule(recipe, target_epsilon, n_public)
        recipe = recipe.changed({"dp_sgd.steps": steps} if steps else {"budget_split.image": 0.0})
    if recipe.pretraining.steps is None and recipe.sampler.model != "generator":
        two_scale = recipe.sampler.model == "two_scale"
        wanted = _COARSE_PRETRAINING if two_scale else pretraining_steps(steps)
        recipe = recipe.changed({"pretraining.steps": wanted})
    return recipe


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
    cohort: str = "all",
    n_public: int | None = None,
    mechanisms: Mechanisms = all_mechanisms,
    second_opinion: bool = True,
    discretization: float = DISCRETIZATION,
) -> Plan:
    """Solve all noise scales and build the plan. Reads no record and writes nothing.

    The release id is the name and a keyed hash of everything that determines the release, so that
    the same request finds the same reservation, and any change of data, schema, code or settings
    makes a new release. The key prevents the public id from confirming a guess of the private
    data's version.

    Args:
        cohort: The cohort of people whose records are read and who are charged; "all" is everybody.
        n_public: Public number of people in the cohort, if it differs from the schema's.
        mechanisms: Everything that touches private data at a scale mu, for systems with mechanisms
            of their own; their names are part of the release's identity, like the recipe.
        second_opinion: Whether to compute `epsilon_prv`, which loads Opacus (a second or two).
        discretization: Grid of the privacy loss distribution; a coarser one is quicker and asks for
            slightly more noise.

    Raises:
        ValueError: If epsilon or delta is out of range, or no noise meets them.
    """
    calibration.require_target(target_epsilon, target_delta)
    people = replace(schema, n_public=n_public) if n_public is not None else schema
    recipe = with_steps(recipe, target_epsilon, people.n_public)
    target = (target_epsilon, target_delta, discretization)
    recipe = _with_rounds(people, recipe, target, mechanisms)
    solved = tuple(
        replace(mechanism, cohort=cohort)
        for mechanism in _solve(people, recipe, target, mechanisms)
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
        "cohort": cohort,
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
        discretization=discretization,
        mechanisms=solved,
        composed_epsilon=accounting.epsilon(
            events, target_delta=target_delta, discretization=discretization
        ),
        epsilon_prv=accounting.epsilon_prv(events, target_delta=target_delta)
        if second_opinion
        else None,
        recipe=settings,
    )


def _solve(
    schema: Schema,
    recipe: Recipe,
    target: tuple[float, float, float],
    mechanisms: Mechanisms,
) -> tuple[PlannedMechanism, ...]:
    """Return the mechanisms at the scale that meets the target (epsilon, delta) on a grid.

    DP-SGD's share is what a single Gaussian with this share costs in the joint composition. The
    scale is solved with that Gaussian in its place, then its noise so that the plan costs the same
    with it. No rule for a mechanism by itself would do: among millions of people, thousands of its
    steps cost next to nothing beside the rest down to a noise multiplier of about 0.7, and a
    multiple below.
    """
    epsilon, delta, discretization = target

    def calibrated(events_of: Callable[[float], Sequence[Event]]) -> float:
        return calibration.calibrate(
            events_of, target_epsilon=epsilon, target_delta=delta, discretization=discretization
        )

    if mechanisms is not all_mechanisms or not recipe.budget_split.image:
        mu = calibrated(lambda mu: [m.event for m in mechanisms(schema, recipe, mu)])
        return mechanisms(schema, recipe, mu)

    def with_gaussian(mu: float) -> list[Event]:
        others = [m.event for m in mechanisms(schema, recipe, mu) if m.name != DPSGD.name]
        share = effective_split(recipe, mu)[DPSGD.part]
        noise = calibration.gaussian_noise_multiplier(mu=mu, share=share)
        return [*others, Gaussian(noise_multiplier=noise)]

    mu = calibrated(with_gaussian)
    training = calibrated(
        lambda scale: [m.event for m in all_mechanisms(schema, recipe, mu, scale)]
    )
    return all_mechanisms(schema, recipe, mu, training)


def _with_rounds(
    schema: Schema,
    recipe: Recipe,
    target: tuple[float, float, float],
    mechanisms: Mechanisms,
) -> Recipe:
    """Return the recipe with the table model's rounds filled in by `recommended_rounds`.

    The rule needs the noise of a marginal, which in turn depends on the rounds: one pass from the
    maximum number of rounds is enough. Without a table model there is nothing to fill in.
    """
    if recipe.table.method == "mst" or recipe.table.rounds is not None:
        return recipe
    most = recipe.changed({"table.rounds": table_counts(schema, recipe).selections})
    first = _solve(schema, most, target, mechanisms)
    sigma = next((m.declared["sigma"] for m in first if m.name == TableMeasurement.name), None)
    if sigma is None:
        return recipe
    rounds = recommended_rounds(table_sizes(schema, recipe), n_public=schema.n_public, sigma=sigma)
    return recipe.changed({"table.rounds": rounds})


def _keyed_hash(key: bytes, identity: dict[str, Any]) -> str:
    return hmac.new(key, canonical_json(identity).encode(), hashlib.sha256).hexdigest()
