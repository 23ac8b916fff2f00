"""The records of the ledger: releases, their stages, the artifacts of a stage, and cohorts.

Which changes to them are lawful is defined in `state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from dagster_project.ledger.gdp_filter import percent


@dataclass(frozen=True, kw_only=True)
class Artifacts:
    """What a committed stage made.

    Attributes:
        files: SHA-256 of each file by its relative path.
        parents: The committed stages it was made from, as "stage" or "release/stage".
        entry: Number of the ledger entry that committed them.
    """

    release_id: str
    stage: str
    files: Mapping[str, str]
    parents: tuple[str, ...]
    entry: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a release. `steps` counts authorised steps, including replays; `started` is the
    hash of the entry that last started it."""

    mechanisms: tuple[Mapping[str, Any], ...] = ()
    starts: int = 0
    started: str = ""
    steps: int = 0
    next_step: int = 0
    artifacts: Artifacts | None = None

    @property
    def status(self) -> str:
        """DECLARED, STARTED or COMMITTED."""
        if self.artifacts is not None:
            return "COMMITTED"
        return "STARTED" if self.starts else "DECLARED"

    @property
    def declared(self) -> dict[str, Any]:
        """Return what must equal the parameters that run, by mechanism."""
        return {item["name"]: item["declared"] for item in self.mechanisms}

    @property
    def schedule(self) -> Mapping[str, Any] | None:
        """Return the declared "steps" and "replay_steps" of a stage that can resume."""
        return next((d for d in self.declared.values() if "replay_steps" in d), None)


@dataclass(frozen=True, kw_only=True)
class ReleaseRecord:
    """One reserved plan.

    Attributes:
        charges: Cost (see `gdp_filter`), by cohort.
        status: RESERVED, OPENED, COMMITTED (every planned stage is), STOPPED or VOID.
        refunds: Part of the charges, by cohort, that is given back if the release is stopped.
        facts: What was attached, in order.
    """

    release_id: str
    plan: Mapping[str, Any]
    plan_hash: str
    charges: Mapping[str, float]
    approved_by: str
    entry: int
    at: str
    delta_exception: bool = False
    opened: bool = False
    void: bool = False
    stopped: bool = False
    refunds: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, Stage] = field(default_factory=dict)
    facts: tuple[Mapping[str, Any], ...] = ()

    def artifacts(self, stage: str) -> Artifacts | None:
        """Return what a stage made, None while it is not committed."""
        known = self.stages.get(stage)
        return known.artifacts if known is not None else None

    @property
    def paid(self) -> Mapping[str, float]:
        """The charges, by cohort, without what was given back."""
        back = self.charges if self.void else self.refunds if self.stopped else {}
        return {cohort: cost - back.get(cohort, 0.0) for cohort, cost in self.charges.items()}

    @property
    def deciding(self) -> str | None:
        """Name of the stage whose output may end the release early: it declares a minimum."""
        for name, stage in self.stages.items():
            if any("minimum" in declared for declared in stage.declared.values()):
                return name
        return None

    @property
    def status(self) -> str:
        """RESERVED, OPENED, COMMITTED, STOPPED or VOID."""
        if self.void:
            return "VOID"
        if self.stopped:
            return "STOPPED"
        planned = (stage for stage in self.stages.values() if stage.mechanisms)
        if all(stage.artifacts is not None for stage in planned):
            return "COMMITTED"
        return "OPENED" if self.opened else "RESERVED"


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A cohort, and the exact sum of what it has spent (see `gdp_filter`)."""

    n_public: int
    spent: Fraction = Fraction(0)


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The chain's seal of the table of members: its keyed hash at an entry, and the rule by which
    ids were made canonical."""

    entry: int
    seal: str
    id_rule: str


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The reservation of a plan in the ledger.

    Attributes:
        charges: Cost (see `gdp_filter`), by cohort it may touch.
        status: RESERVED, OPENED, COMMITTED, STOPPED or VOID.
        entry: Number of the entry that reserved it.
    """

    release_id: str
    plan_hash: str
    charges: Mapping[str, float]
    status: str
    entry: int

    @classmethod
    def of(cls, release: ReleaseRecord) -> Reservation:
        """Return the reservation of a release."""
        return cls(
            release_id=release.release_id,
            plan_hash=release.plan_hash,
            charges=dict(release.charges),
            status=release.status,
            entry=release.entry,
        )


@dataclass(frozen=True, kw_only=True)
class CohortStatus:
    """A cohort's account.

    Attributes:
        spent, cap, remaining: Sums of costs (see `gdp_filter`).
        share: Share of the lifetime budget that is used.
        releases_left: How many releases at epsilon 1 still fit.
        lifetime_epsilon: What the whole budget stands for.
    """

    name: str
    n_public: int
    spent: float
    cap: float
    remaining: float
    share: float
    releases_left: int
    lifetime_epsilon: float

    def __str__(self) -> str:
        more = (
            "1 more release at epsilon 1 fits"
            if self.releases_left == 1
            else (f"{self.releases_left:,} more releases at epsilon 1 fit")
        )
        return f"{percent(self.share)} of the lifetime budget used; {more}"
