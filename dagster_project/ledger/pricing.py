"""What a plan costs each cohort, in the currency of the filter (`gdp_filter`).

Costs of events come from `privacy.accounting`; this says who pays them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dagster_project.ledger import errors, gdp_filter
from dagster_project.ledger.records import CohortStatus
from dagster_project.ledger.state import State
from dagster_project.privacy import events

if TYPE_CHECKING:
    from dagster_project.privacy.plan import Plan, PlannedMechanism


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a plan would cost the cohort that it brings nearest to its cap.

    Attributes:
        cohort: that cohort.
        cost: squared Gaussian-DP parameter, as the filter adds them.
        spent, cap, remaining: of the cohort, before the plan.
        fits: whether every cohort can pay.
        epsilon_release: the release's own epsilon (joint privacy loss distribution).
        epsilon_lifetime_cap: the cap, as epsilon.
        epsilon_lifetime_before, epsilon_lifetime_after: what the filter has spent, as epsilon at
            the population's delta.
        charges: cost by cohort.
        advice: a sentence where delta is allowed and larger than advised, else empty.
    """

    cohort: str
    cost: float
    spent: float
    cap: float
    remaining: float
    fits: bool
    epsilon_release: float
    epsilon_lifetime_cap: float
    epsilon_lifetime_before: float
    epsilon_lifetime_after: float
    charges: Mapping[str, float]
    advice: str

    def __str__(self) -> str:
        fits = "fits under" if self.fits else "does not fit under"
        cap = self.epsilon_lifetime_cap
        return (
            f"the plan (epsilon {self.epsilon_release:.3f}) {fits} the lifetime cap of {cap:g}: "
            f"cohort {self.cohort!r} would go from {self.epsilon_lifetime_before:.3f} to "
            f"{self.epsilon_lifetime_after:.3f}"
        )


def lifetime_epsilon(spent: float, fixed: Mapping[str, Any]) -> float:
    """The epsilon that a sum of costs stands for, at the population's delta."""
    return gdp_filter.epsilon_of(spent, target_delta=fixed["target_delta"])


def accounts(state: State) -> list[CohortStatus]:
    """What each cohort has spent and has left."""
    return [
        CohortStatus(
            name=name,
            n_public=cohort.n_public,
            spent=float(cohort.spent),
            cap=state.cap,
            remaining=state.cap - float(cohort.spent),
            epsilon=lifetime_epsilon(float(cohort.spent), state.population),
            lifetime_epsilon=state.population["lifetime_epsilon"],
        )
        for name, cohort in state.cohorts.items()
    ]


def charges(plan: Plan, state: State) -> dict[str, float]:
    """Cost by cohort: a mechanism on "all" costs every cohort, disjoint cohorts pay their own."""
    named = {mechanism.cohort for mechanism in plan.mechanisms} - {"all"}
    if unknown := sorted(named - state.cohorts.keys()):
        raise errors.PlanRefused(f"the plan touches a cohort the ledger has not: {unknown[0]!r}")
    touched = [name for name in state.cohorts if "all" not in _cohorts(plan) and name in named]
    touched = touched or list(state.cohorts)
    costs: dict[tuple[events.Event, ...], float] = {}
    result = {}
    for name in touched:
        paid = tuple(item.event for item in plan.mechanisms if item.cohort in ("all", name))
        if paid not in costs:
            costs[paid] = _cost(paid, state.population)
            if not (math.isfinite(costs[paid]) and costs[paid] > 0):
                raise errors.PlanRefused("the plan has no finite cost: its noise is too small")
        result[name] = costs[paid]
    return result


def _cost(paid: Sequence[events.Event], fixed: Mapping[str, Any]) -> float:
    """What a cohort pays for these events: their Gaussian-DP cost, and no more than the whole cap
    where their own epsilon keeps to it.

    A release that costs the whole cap is the first and the last that reads the cohort, and nothing
    composes with it: its own privacy loss distribution is all there is.
    """
    from dagster_project.privacy import accounting

    cost = float(accounting.gdp_cost(paid, leak=fixed["leak"]))
    if cost > fixed["cap"]:
        alone = accounting.epsilon(paid, target_delta=fixed["target_delta"])
        if alone <= fixed["lifetime_epsilon"]:
            return float(fixed["cap"])
    return cost


def _cohorts(plan: Plan) -> set[str]:
    return {mechanism.cohort for mechanism in plan.mechanisms}


def price(
    plan: Plan, costs: Mapping[str, float], state: State, *, freed: Mapping[str, Fraction]
) -> Price:
    """The price of a plan whose costs are known, once what is `freed` by cohort was given back."""

    def before(name: str) -> Fraction:
        return state.cohorts[name].spent - freed.get(name, 0)

    def after(name: str) -> Fraction:
        return before(name) + Fraction(costs[name])

    worst = max(costs, key=after)
    spent = float(before(worst))
    return Price(
        cohort=worst,
        cost=costs[worst],
        spent=spent,
        cap=state.cap,
        remaining=state.cap - spent,
        fits=after(worst) <= Fraction(state.cap),
        epsilon_release=plan.epsilon,
        epsilon_lifetime_cap=state.population["lifetime_epsilon"],
        epsilon_lifetime_before=lifetime_epsilon(spent, state.population),
        epsilon_lifetime_after=lifetime_epsilon(float(after(worst)), state.population),
        charges=dict(costs),
        advice=_advice(plan.target_delta, _people(plan, state)),
    )


def _people(plan: Plan, state: State) -> int:
    return max(plan.n_public, state.population["n_public"])


def _advice(delta: float, people: int) -> str:
    """Advises a delta of 1 / (n ln n): a mechanism that publishes each record by an own coin of
    that chance, which delta allows, publishes any with a chance that falls with n, 1 / ln n."""
    advised = 1 / (people * max(math.log(people), 10.0))  # at most the limit of `require_plan`
    if delta <= advised:
        return ""
    return f"delta {delta:g} is large for {people} people: {advised:.2g} or smaller is advised"


def require_plan(plan: Plan, state: State, schema_public: bool, allow_delta: bool) -> bool:
    """Refuses what needs no price; returns whether an exception for delta has to be recorded."""
    fixed = state.population
    if plan.population != fixed["name"]:
        raise errors.PlanRefused(
            f"the plan is for population {plan.population!r}, the ledger for {fixed['name']!r}"
        )
    if plan.target_epsilon <= 0 or not 0 < plan.target_delta < 1:
        raise errors.PlanRefused("a plan needs epsilon above 0 and delta between 0 and 1")
    for mechanism in plan.mechanisms:
        _require_declared(mechanism)
    people = _people(plan, state)
    delta = max(plan.target_delta, fixed["target_delta"])
    if delta * 10 * people <= 1:
        return False
    if allow_delta and schema_public:
        return True
    raise errors.DeltaTooLarge(
        f"delta {delta:g} is above 1 / (10 x {people} people): it would allow publishing whole "
        "records" + ("" if schema_public else ", and only public data can be excepted")
    )


def _require_declared(mechanism: PlannedMechanism) -> None:
    """What a mechanism declares must be what its event charges."""
    declared, event = mechanism.declared, mechanism.event
    for name in ("noise_multiplier", "sample_rate"):
        if name in declared and hasattr(event, name) and declared[name] != getattr(event, name):
            raise errors.PlanRefused(f"{mechanism.name} declares another {name} than it charges")
    if "replay_steps" in declared:
        steps, replays = declared.get("steps"), declared["replay_steps"]
        whole = all(type(value) is int and value >= 0 for value in (steps, replays))
        if not whole or event.count != steps + replays:
            raise errors.PlanRefused(
                f"{mechanism.name} must charge its steps and its replays, one event each"
            )


def require_repriced(state: State) -> None:
    """Recomputes every release's charges from its recorded events. Raises LedgerBroken."""
    for release in state.releases.values():
        for cohort, charged in release.charges.items():
            paid = [
                events.from_json(item["event"])
                for item in release.plan["mechanisms"]
                if item["cohort"] in ("all", cohort)
            ]
            cost = _cost(paid, state.population)
            if not math.isclose(cost, charged, rel_tol=1e-6):
                raise errors.LedgerBroken(
                    f"entry {release.entry} of the ledger charges cohort {cohort!r} {charged:.6g}, "
                    f"and its events cost {cost:.6g}",
                    release.entry,
                )
