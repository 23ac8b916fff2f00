"""The cost of a plan for each cohort, in the currency of the filter (`gdp_filter`).

Costs of events come from `privacy.accounting`; this module decides who pays them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
    """The price of a plan for the cohort that it brings closest to its cap.

    Attributes:
        cohort: That cohort.
        cost: Squared Gaussian-DP parameter, as the filter adds them.
        spent, cap, remaining: Account of the cohort before the plan.
        fits: Whether every cohort can pay.
        epsilon_release: The release's own epsilon (joint privacy loss distribution).
        share, share_before, share_after: Share of the lifetime budget that the plan takes, and
            that is used before and after it.
        releases_left: How many releases at epsilon 1 fit after it.
        epsilon_that_fits: About the largest epsilon of a release that fits now.
        charges: Cost by cohort.
        advice: A sentence if delta is allowed but larger than advised, otherwise empty.
    """

    cohort: str
    cost: float
    spent: float
    cap: float
    remaining: float
    fits: bool
    epsilon_release: float
    share: float
    share_before: float
    share_after: float
    releases_left: int
    epsilon_that_fits: float
    charges: Mapping[str, float]
    advice: str

    def __str__(self) -> str:
        payers = " and ".join(f"cohort {name!r}" for name in self.charges)
        told = (
            f"the plan (epsilon {self.epsilon_release:.3f}) "
            f"{'fits' if self.fits else 'does not fit'}: it takes {gdp_filter.percent(self.share)} "
            f"of the lifetime budget of {payers}"
        )
        if len(self.charges) > 1:
            told += f" each; cohort {self.cohort!r} has the least left"
        used = gdp_filter.percent(self.share_before)
        if self.fits:
            return (
                f"{told}, where {used} is used so far; afterwards {self.releases_left:,} more at "
                "epsilon 1 fit"
            )
        if self.epsilon_that_fits < 0.05:
            return f"{told}, where {used} is used so far, so that no other release fits"
        smaller = min(self.epsilon_that_fits, math.floor(100 * self.epsilon_release) / 100)
        return f"{told}, where {used} is used so far; about epsilon {smaller:g} would fit"


def accounts(state: State) -> list[CohortStatus]:
    """Return what each cohort has spent and has left."""
    return [
        CohortStatus(
            name=name,
            n_public=cohort.n_public,
            spent=float(cohort.spent),
            cap=state.cap,
            remaining=state.cap - float(cohort.spent),
            share=float(cohort.spent) / state.cap,
            releases_left=_releases_left(state.cap - float(cohort.spent), state),
            lifetime_epsilon=state.population["lifetime_epsilon"],
        )
        for name, cohort in state.cohorts.items()
    ]


def _releases_left(remaining: float, state: State) -> int:
    return gdp_filter.releases_left(remaining, target_delta=state.population["target_delta"])


def _epsilon_that_fits(remaining: float, state: State) -> float:
    """Return about the largest epsilon that `remaining` pays for, rounded down.

    A release that is alone with its cohort is judged by its own epsilon (`_cost`).
    """
    if remaining >= state.cap:
        return state.population["lifetime_epsilon"]
    epsilon = gdp_filter.epsilon_of(remaining, target_delta=state.population["target_delta"])
    return math.floor(100 * epsilon) / 100


def charges(plan: Plan, state: State) -> dict[str, float]:
    """Return cost by cohort: every cohort pays for mechanisms on "all", and each for its own."""
    named = {mechanism.cohort for mechanism in plan.mechanisms} - {"all"}
    if unknown := sorted(named - state.cohorts.keys()):
        raise errors.PlanRefused(f"the plan touches an unknown cohort {unknown[0]!r}")
    touched = [name for name in state.cohorts if "all" not in _cohorts(plan) and name in named]
    touched = touched or list(state.cohorts)
    costs: dict[tuple[_Paid, ...], float] = {}
    result = {}
    for name in touched:
        paid = _paid(plan.mechanisms, name)
        if paid not in costs:
            costs[paid] = sum(_costs(paid, state.population))
            if not (math.isfinite(costs[paid]) and costs[paid] > 0):
                raise errors.PlanRefused("the plan has no finite cost: its noise is too small")
        result[name] = costs[paid]
    return result


def cost(plan: Plan, fixed: Mapping[str, Any]) -> float:
    """Return what everybody pays for a plan that reads everybody."""
    return sum(_costs(_paid(plan.mechanisms, "all"), fixed))


def refunds(plan: Plan, charged: Iterable[str], state: State) -> dict[str, float]:
    """Return what each cohort that is charged gets back if the count of people ends the release.

    Cohorts that would get nothing are left out.
    """
    given = {name: _costs(_paid(plan.mechanisms, name), state.population)[1] for name in charged}
    return {name: cost for name, cost in given.items() if cost}


_Paid = tuple[events.Event, bool]  # an event, and whether its stage is the one that decides


def _paid(mechanisms: Sequence[PlannedMechanism], cohort: str) -> tuple[_Paid, ...]:
    # A stage begins with all of its mechanisms, so what stands beside a count is never given back.
    deciding = {item.stage for item in mechanisms if "minimum" in item.declared}
    return tuple(
        (item.event, item.stage in deciding)
        for item in mechanisms
        if item.cohort in ("all", cohort)
    )


def _costs(paid: Sequence[_Paid], fixed: Mapping[str, Any]) -> tuple[float, float]:
    """Return what is paid for good, and what is given back if the release ends early.

    The second is the cost of everything but the count that decides, by itself; the first is the
    rest of the charge, and never less than the cost of the count (docs/method.md).
    """
    whole = _cost([event for event, _ in paid], fixed)
    first = [event for event, decides in paid if decides]
    rest = [event for event, decides in paid if not decides]
    # A charge of the whole cap is by another rule, under which nothing composes with the release.
    if not first or not rest or whole >= fixed["cap"]:
        return whole, 0.0
    kept, given = _cost(first, fixed), _cost(rest, fixed)
    return (max(whole - given, kept), given) if kept + given <= fixed["cap"] else (whole, 0.0)


def _cost(paid: Sequence[events.Event], fixed: Mapping[str, Any]) -> float:
    """Return what a cohort pays for these events: their Gaussian-DP cost, but no more than the
    whole cap if their own epsilon is within it.

    A release that costs the whole cap is the first and the last that reads the cohort, and nothing
    composes with it, so only its own privacy loss distribution counts.
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
    """Return the price of a plan with known costs, once `freed` by cohort was given back."""

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
        share=costs[worst] / state.cap,
        share_before=spent / state.cap,
        share_after=float(after(worst)) / state.cap,
        releases_left=_releases_left(state.cap - float(after(worst)), state),
        epsilon_that_fits=_epsilon_that_fits(state.cap - spent, state),
        charges=dict(costs),
        advice=_advice(plan.target_delta, _people(plan, state)),
    )


def _people(plan: Plan, state: State) -> int:
    return max(plan.n_public, state.population["n_public"])


def _advice(delta: float, people: int) -> str:
    """Advise a delta of 1 / (n ln n). Delta allows a mechanism that publishes each record
    independently with that probability; it publishes any with a probability of at most 1 / ln n,
    which falls with n."""
    advised = 1 / (people * max(math.log(people), 10.0))  # at most the limit of `require_plan`
    if delta <= advised:
        return ""
    return f"delta {delta:g} is large for {people:,} people: {advised:.2g} or smaller is advised"


def require_plan(plan: Plan, state: State, schema_public: bool, allow_delta: bool) -> bool:
    """Refuse what needs no price; return whether an exception for delta has to be recorded."""
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
        f"delta {delta:g} is above 1 / (10 x {people:,} people): it would allow publishing whole "
        "records" + ("" if schema_public else ", and only public data can be excepted")
    )


def _require_declared(mechanism: PlannedMechanism) -> None:
    """Require that a mechanism declares what its event charges."""
    declared, event = mechanism.declared, mechanism.event
    for name in ("noise_multiplier", "sample_rate", "sigma", "epsilon"):
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
    """Recompute every release's charges from its recorded events. Raises LedgerBroken."""
    from dagster_project.privacy.plan import PlannedMechanism

    for release in state.releases.values():
        mechanisms = [PlannedMechanism.from_json(item) for item in release.plan["mechanisms"]]
        for cohort, charged in release.charges.items():
            kept, given = _costs(_paid(mechanisms, cohort), state.population)
            cost, refund = kept + given, release.refunds.get(cohort, 0.0)
            if not math.isclose(given, refund, rel_tol=1e-6):
                raise errors.LedgerBroken(
                    f"entry {release.entry} of the ledger gives back {refund:.6g} to cohort "
                    f"{cohort!r}, but what it would not have spent costs {given:.6g}",
                    release.entry,
                )
            if not math.isclose(cost, charged, rel_tol=1e-6):
                raise errors.LedgerBroken(
                    f"entry {release.entry} of the ledger charges cohort {cohort!r} {charged:.6g}, "
                    f"but its events cost {cost:.6g}",
                    release.entry,
                )
