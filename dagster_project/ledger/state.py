"""The meaning of the entries: the population's releases, their states and each cohort's spending.

The state is nothing but its entries replayed in order. `apply` checks an entry against the state
before it changes anything, in the same way for an entry about to be written and for one read back:
an entry that could not have been written lawfully breaks the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from dagster_project.ledger import errors
from dagster_project.ledger.chain import Entry, Head
from dagster_project.ledger.gdp_filter import percent
from dagster_project.ledger.records import Artifacts, Cohort, ReleaseRecord, Seal, Stage
from dagster_project.privacy.plan import canonical_hash, canonical_json, is_identifier

FORMAT = 2  # of the entries, in the first one; a change of it brings a migration and its test
# The cohort of people who are never read for a mechanism, so it never spends.
HELD_OUT = "held-out"

_WAYS_ON = (
    "so make a new release under another name (`dptabimage release --name`), which is charged "
    "again, or draw more pairs from an earlier release at no cost (`dptabimage sample`)"
)


class State:
    """Everything that the ledger knows after `head.entries` entries."""

    def __init__(self) -> None:
        self.head = Head()
        self.population: Mapping[str, Any] = {}
        self.cohorts: dict[str, Cohort] = {}
        self.releases: dict[str, ReleaseRecord] = {}
        self.members: Seal | None = None
        # The ledger's own time, which never goes back, and that of each unopened reservation.
        self.time = datetime.min.replace(tzinfo=UTC)
        self.reserved: dict[str, datetime] = {}

    @property
    def cap(self) -> float:
        """Limit on the sum of costs of a cohort's releases."""
        return self.population["cap"]

    def release(self, release_id: str) -> ReleaseRecord:
        """Return the release of this name. Raises UnknownRelease."""
        try:
            return self.releases[release_id]
        except KeyError:
            raise errors.UnknownRelease(f"the ledger has no release {release_id!r}") from None

    def stage(self, release_id: str, stage: str) -> Stage:
        """Return a stage of an opened release; one that the plan lacks is post-processing."""
        release = self.release(release_id)
        if release.void or release.stopped or not release.opened:
            raise errors.WrongState(
                f"release {release_id!r} is {release.status}: no part of it can run"
            )
        return release.stages.get(stage) or Stage()

    def replay(self, entry: Entry) -> None:
        """Apply an entry that was read back. Raises LedgerBroken, naming the entry."""
        try:
            self.apply(entry)
        except errors.LedgerError as error:
            message = f"entry {entry.seq} of the ledger is not lawful: {error}"
            raise errors.LedgerBroken(message, entry.seq) from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"entry {entry.seq} of the ledger is malformed"
            raise errors.LedgerBroken(message, entry.seq) from error

    def apply(self, entry: Entry) -> None:
        """Check and apply an entry; the state is unchanged if this raises."""
        if (entry.kind == "CREATED") != (entry.seq == 1):
            raise errors.WrongState("a ledger is created once, by its first entry")
        kinds = {
            "CREATED": self._created,
            "COHORT": self._cohort,
            "RESERVED": self._reserved,
            "OPENED": self._opened,
            "MEMBERS": self._members,
            "VOID": self._void,
            "STOPPED": self._stopped,
            "STARTED": self._started,
            "STEPS": self._steps,
            "COMMITTED": self._committed,
            "ATTACHED": self._attached,
        }
        if entry.kind not in kinds:
            raise errors.WrongState(f"unknown kind of entry {entry.kind!r}")
        time = max(self.time, datetime.fromisoformat(entry.at))
        kinds[entry.kind](entry, entry.body)
        self.time = time
        if entry.kind == "RESERVED":
            self.reserved[entry.body["release_id"]] = time
        elif entry.kind in ("OPENED", "VOID"):
            del self.reserved[entry.body["release_id"]]
        self.head = Head(entries=entry.seq, head=entry.hash)

    def _created(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        if body.get("format") != FORMAT:
            raise errors.PlanRefused(
                f"it is not of format {FORMAT}, the one that this version reads (version 0.1 "
                "charged releases by another rule): a new population needs a ledger of its own"
            )
        if not all(math.isfinite(body[key]) and body[key] > 0 for key in ("cap", "leak")):
            raise errors.PlanRefused("the cap is not positive")
        self.population = body

    def _cohort(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        name, n_public = body["cohort"], body["n_public"]
        if name in self.cohorts or name in ("all", HELD_OUT):
            raise errors.WrongState(f"cohort {name!r} exists already")
        if not is_identifier(name) or type(n_public) is not int or n_public < 1:
            raise errors.PlanRefused(
                "a cohort needs a name of letters, digits, '.', '_' or '-' and a public number of "
                "at least one person"
            )
        self.cohorts[body["cohort"]] = Cohort(n_public=body["n_public"])

    def _reserved(self, entry: Entry, body: Mapping[str, Any]) -> None:
        name, plan = body["release_id"], body["plan"]
        if name in self.releases:
            raise errors.ReleaseExists(
                f"the name of release {name!r} is used by another plan: choose another name"
            )
        if canonical_hash(plan) != body["plan_hash"]:
            raise errors.PlanRefused(f"the plan of release {name!r} does not match its hash")
        charges = {cohort: Fraction(cost) for cohort, cost in body["charges"].items()}
        if not charges or min(charges.values()) <= 0 or not charges.keys() <= self.cohorts.keys():
            raise errors.PlanRefused(f"the plan of release {name!r} charges no known cohort")
        self._require_room(name, charges)
        stages: dict[str, list[Mapping[str, Any]]] = {}
        for mechanism in plan["mechanisms"]:
            stages.setdefault(mechanism["stage"], []).append(mechanism)
        self.releases[name] = ReleaseRecord(
            release_id=name,
            plan=plan,
            plan_hash=body["plan_hash"],
            charges=body["charges"],
            approved_by=body["approved_by"],
            delta_exception=body["delta_exception"],
            refunds=self._refunds(body),
            entry=entry.seq,
            at=entry.at,
            stages={key: Stage(mechanisms=tuple(value)) for key, value in stages.items()},
        )
        for cohort, cost in charges.items():
            self._spend(cohort, cost)

    @staticmethod
    def _refunds(body: Mapping[str, Any]) -> Mapping[str, float]:
        """Return what stopping the release would give back: less than its charge, if anything."""
        refunds: Mapping[str, float] = body.get("refunds", {})
        if any(not 0 < cost < body["charges"].get(name, 0) for name, cost in refunds.items()):
            raise errors.PlanRefused(
                f"the plan of release {body['release_id']!r} would give back more than it charges"
            )
        return refunds

    def _require_room(self, name: str, charges: Mapping[str, Fraction]) -> None:
        cap = Fraction(self.cap)
        for cohort, cost in charges.items():
            remaining = cap - self.cohorts[cohort].spent
            if cost > remaining:
                raise errors.BudgetExceeded(
                    f"release {name!r} takes {percent(float(cost / cap))} of the lifetime budget "
                    f"of cohort {cohort!r}, where {percent(1 - float(remaining / cap))} is used"
                )

    def _opened(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        release = self.release(body["release_id"])
        if release.status != "RESERVED":
            raise errors.WrongState(
                f"release {release.release_id!r} is {release.status}: it cannot be opened"
            )
        self.releases[release.release_id] = replace(release, opened=True)

    def _members(self, entry: Entry, body: Mapping[str, Any]) -> None:
        release = self.release(body["release_id"])
        if release.void or release.stopped or not release.opened:
            raise errors.WrongState(
                f"release {release.release_id!r} is {release.status}: nobody can be read for it"
            )
        self.members = Seal(entry=entry.seq, seal=body["members"], id_rule=body["id_rule"])

    def _void(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        release = self.release(body["release_id"])
        if release.status != "RESERVED":
            raise errors.WrongState(
                f"release {release.release_id!r} is {release.status}: only a reservation that was "
                "never opened can be given back"
            )
        self.releases[release.release_id] = replace(release, void=True)
        for cohort, cost in release.charges.items():
            self._spend(cohort, -Fraction(cost))

    def _stopped(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        release = self.release(body["release_id"])
        deciding = release.deciding
        begun = [name for name, stage in release.stages.items() if stage.starts]
        if (
            release.status != "OPENED"
            or begun != [deciding]
            or release.artifacts(deciding or "") is None
        ):
            raise errors.WrongState(
                f"release {release.release_id!r} is {release.status}: it can only be stopped after "
                "its count of people is committed and before anything else begins"
            )
        self.releases[release.release_id] = replace(release, stopped=True)
        for cohort, cost in release.refunds.items():
            self._spend(cohort, -Fraction(cost))

    def require_startable(self, body: Mapping[str, Any]) -> Stage:
        """Return the stage that an entry STARTED with this body would start, or refuse it."""
        name, stage = body["stage"], self.stage(body["release_id"], body["stage"])
        self._require_uncommitted(body, stage)
        if not stage.mechanisms:
            raise errors.ConformanceError(f"the plan declares no mechanism for stage {name!r}")
        executed, declared = body["executed"], stage.declared
        if canonical_json(executed) != canonical_json(declared):
            differing = sorted(
                key
                for key in executed.keys() | declared.keys()
                if canonical_json(executed.get(key)) != canonical_json(declared.get(key))
            )
            raise errors.ConformanceError(
                f"stage {name!r} would not run what the plan declares: {', '.join(differing)}"
            )
        if stage.starts and stage.schedule is None:
            raise errors.StageSpent(
                f"stage {name!r} of release {body['release_id']!r} was started, and no whole "
                f"output of it is on disk: the budget of {', '.join(declared)} is spent in full "
                f"and its noise cannot be drawn again, {_WAYS_ON}"
            )
        return stage

    def _started(self, entry: Entry, body: Mapping[str, Any]) -> None:
        stage = self.require_startable(body)
        self._set_stage(body, replace(stage, starts=stage.starts + 1, started=entry.hash))

    def _steps(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        name, first, last = body["stage"], body["first"], body["last"]
        stage = self.stage(body["release_id"], name)
        self._require_uncommitted(body, stage)
        schedule = stage.schedule
        if schedule is None or not stage.starts:
            raise errors.ConformanceError(f"stage {name!r} has not begun the steps of a plan")
        if not 0 <= first <= last < schedule["steps"] or first > stage.next_step:
            raise errors.ConformanceError(
                f"steps {first} to {last} of stage {name!r} do not continue its "
                f"{stage.next_step} of {schedule['steps']} steps"
            )
        total, paid = stage.steps + last - first + 1, schedule["steps"] + schedule["replay_steps"]
        if total > paid:
            raise errors.StepsExhausted(
                f"steps {first} to {last} of stage {name!r} would make {total} steps with replays, "
                f"but the plan paid for {paid}: its budget is spent in full, {_WAYS_ON}"
            )
        next_step = max(stage.next_step, last + 1)
        self._set_stage(body, replace(stage, steps=total, next_step=next_step))

    def _committed(self, entry: Entry, body: Mapping[str, Any]) -> None:
        release_id, name = body["release_id"], body["stage"]
        stage = self.stage(release_id, name)
        self._require_uncommitted(body, stage)
        if stage.mechanisms and not stage.starts:
            raise errors.WrongState(f"stage {name!r} was never begun: it cannot be committed")
        schedule = stage.schedule
        if schedule is not None and stage.next_step != schedule["steps"]:
            raise errors.ConformanceError(
                f"stage {name!r} ran {stage.next_step} of its {schedule['steps']} declared steps"
            )
        if not stage.mechanisms and not body["parents"]:
            raise errors.ConformanceError(
                f"stage {name!r} is in no plan and names no parent: only what is made from "
                "committed stages can be released"
            )
        for parent in body["parents"]:
            owner, _, parent_stage = parent.rpartition("/")
            source = self.release(owner or release_id).stages.get(parent_stage)
            if source is None or source.artifacts is None:
                raise errors.WrongState(f"parent {parent!r} of stage {name!r} is not committed")
        made = Artifacts(
            release_id=release_id,
            stage=name,
            files=body["files"],
            parents=tuple(body["parents"]),
            entry=entry.seq,
        )
        self._set_stage(body, replace(stage, artifacts=made))

    def _attached(self, _entry: Entry, body: Mapping[str, Any]) -> None:
        release = self.release(body["release_id"])
        facts = (*release.facts, body["facts"])
        self.releases[release.release_id] = replace(release, facts=facts)

    def _spend(self, cohort: str, cost: Fraction) -> None:
        known = self.cohorts[cohort]
        self.cohorts[cohort] = replace(known, spent=known.spent + cost)

    def _set_stage(self, body: Mapping[str, Any], stage: Stage) -> None:
        release = self.release(body["release_id"])
        stages = {**release.stages, body["stage"]: stage}
        self.releases[release.release_id] = replace(release, stages=stages)

    @staticmethod
    def _require_uncommitted(body: Mapping[str, Any], stage: Stage) -> None:
        if stage.artifacts is not None:
            raise errors.StageCommitted(
                f"stage {body['stage']!r} of release {body['release_id']!r} is committed: "
                "its output is final"
            )
