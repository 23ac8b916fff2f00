"""The budget ledger: what has been spent on a population's people, and what may still be spent.

Every call that changes something is one durable entry, written before the action it allows: a crash
can only over-count. Costs come from `accounting`, the limit from `gdp_filter`, and the lawful order
of events from `state`. Running mechanisms does not belong here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dagster_project.ledger import errors, expiry, files, pricing
from dagster_project.ledger.members import Members
from dagster_project.ledger.opening import open_journal
from dagster_project.ledger.reader import LedgerReader
from dagster_project.ledger.records import Artifacts, Reservation
from dagster_project.ledger.state import State
from dagster_project.privacy.plan import canonical_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dagster_project.ledger.population import Population
    from dagster_project.privacy.plan import Plan


class Ledger(LedgerReader):
    """One population's ledger. Threads and processes may share it (not across a fork).

    Every method that refuses raises a `LedgerError` with one clear sentence and changes nothing.
    """

    @classmethod
    def open(cls, population: Population, *, wait: float = 60.0) -> Ledger:
        """Open the population's ledger, verified from its first entry to its last.

        A new ledger is created if the population has never had one.

        Args:
            population: The population.
            wait: Seconds to wait for another process that writes.

        Raises:
            LedgerMissing, KeyLost: The population's ledger or key is gone.
            LedgerBehindAnchor: An older copy was put in its place.
            LedgerBroken: An entry was altered; the message names it.
            PopulationChanged: population.yaml differs from what was fixed at creation.
        """
        journal, members = open_journal(population, wait=wait), Members(population.key_path)
        return cls(journal, members, population.reservation_days)

    def add_cohort(self, name: str, *, n_public: int, approved_by: str) -> None:
        """Open a cohort, with its public size, for people first seen from now on."""
        body = {"cohort": name, "n_public": n_public, "approved_by": approved_by}
        self._journal.record("COHORT", lambda _state: body)

    def reserve(
        self, plan: Plan, *, approved_by: str, schema_public: bool, allow_delta: bool = False
    ) -> Reservation:
        """Charge a plan to every cohort it touches, all or nothing.

        The same plan again returns the same reservation at no cost. Other reservations that were
        not opened in time are given back first.

        Args:
            plan: The plan to charge.
            approved_by: The person who decided to spend.
            schema_public: Whether the data is declared public (a benchmark).
            allow_delta: Accept a delta above 1 / (10 n_public), only on public data; recorded.

        Raises:
            BudgetExceeded, DeltaTooLarge, PlanRefused, ReleaseExists.
        """
        plan_json, plan_hash = plan.to_json(), plan.hash
        # A price follows from the cohorts and from constants, so no lock is needed.
        before = self._journal.known()
        if not {item.cohort for item in plan.mechanisms} <= {"all", *before.cohorts}:
            before = self._journal.fresh()
        exception = pricing.require_plan(plan, before, schema_public, allow_delta)
        priced = set(before.cohorts)
        charges = pricing.charges(plan, before)
        refunds = pricing.refunds(plan, charges, before)

        def body(state: State) -> dict[str, Any] | None:
            nonlocal charges, refunds
            known = state.releases.get(plan.release_id)
            if known is not None and known.plan_hash == plan_hash:
                if known.void or known.stopped:
                    ended = "given back" if known.void else "stopped, as too few people were left"
                    message = f"release {plan.release_id!r} was {ended}: choose another name"
                    raise errors.WrongState(message)
                return None
            if set(state.cohorts) != priced:
                charges = pricing.charges(plan, state)
                refunds = pricing.refunds(plan, charges, state)
            return {
                "release_id": plan.release_id,
                "plan_hash": plan_hash,
                "plan": plan_json,
                "charges": charges,
                "approved_by": approved_by,
                "schema_public": schema_public,
                "delta_exception": exception,
                **({"refunds": refunds} if refunds else {}),
            }

        def expired(state: State) -> list[tuple[str, dict[str, Any]]]:
            return expiry.entries(state, self._reservation_days, kept=plan.release_id)

        state = self._journal.record("RESERVED", body, first=expired)
        return Reservation.of(state.release(plan.release_id))

    def void(self, release_id: str) -> None:
        """Give back a reservation that was never opened."""
        self._journal.record("VOID", lambda _state: {"release_id": release_id})

    def stop(self, release_id: str) -> bool:
        """End a release whose noisy count of people is committed and which has run nothing else.

        What the rest of its mechanisms would have cost is given back; nothing more of the release
        can run. Stopping it again changes nothing.

        Returns:
            Whether something was given back; a release as large as the whole cap gives nothing.

        Raises:
            WrongState: Another mechanism has begun, or the count is not committed.
        """

        def body(state: State) -> dict[str, Any] | None:
            stopped = state.release(release_id).stopped
            return None if stopped else {"release_id": release_id}

        return bool(self._journal.record("STOPPED", body).release(release_id).refunds)

    def open_reservation(self, release_id: str) -> Reservation:
        """Allow private records to be read; from here on the release is spent for good.

        Opening an opened release again changes nothing.
        """

        def body(state: State) -> dict[str, Any] | None:
            opened = state.release(release_id).status in ("OPENED", "COMMITTED")
            return None if opened else {"release_id": release_id}

        return Reservation.of(self._journal.record("OPENED", body).release(release_id))

    def admit(
        self,
        release_id: str,
        person_ids: Sequence[str],
        held_out: Sequence[str] = (),
        *,
        id_rule: str = "exact",
    ) -> NDArray[np.bool_]:
        """Return who of the people just read may be given to the release's mechanisms.

        People never seen before become members of the release's newest cohort if its plan is for
        everybody or for the ledger's newest cohort; otherwise they are left out and stay unknown.
        Members keep their cohort for good; held-out people are members that never spend.

        Args:
            release_id: The release.
            person_ids: N canonical ids.
            held_out: Canonical ids of people whom no mechanism sees.
            id_rule: How ids were made canonical; the first use fixes it.

        Returns:
            Boolean array (N,): True for members of a cohort to which the release is charged.

        Raises:
            WrongState: The release is not open.
            LedgerBroken: The table of members was altered.
            PopulationChanged: The ids follow another rule than before.
        """
        assert self._members is not None, "a ledger without a population has no members"
        return self._members.admit(self._journal, release_id, person_ids, held_out, id_rule)

    def begin(self, release_id: str, stage: str, executed: Mapping[str, Mapping[str, Any]]) -> None:
        """Spend a stage's mechanisms, just before they run.

        Args:
            release_id, stage: The stage of a release.
            executed: The parameters that will run, by mechanism: exactly what the plan declares.

        Raises:
            ConformanceError: They are not what the plan declares.
            StageSpent: The stage was begun before and cannot resume in steps.
            StageCommitted: The stage is complete; read its output.
        """
        body = _start(release_id, stage, executed)
        self._journal.record("STARTED", lambda _state: body)

    def require_startable(
        self, release_id: str, stage: str, executed: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Raise what `begin` would raise now, and write nothing."""
        self._journal.fresh().require_startable(_start(release_id, stage, executed))

    def authorise_steps(self, release_id: str, stage: str, first: int, last: int) -> None:
        """Allow the steps `first` to `last` (inclusive, numbered from 0), before they run.

        A range that was authorised before is a replay; steps and replays together never exceed
        what the plan paid for.

        Raises:
            StepsExhausted: They would exceed it.
            ConformanceError: The range leaves a gap or exceeds the declared steps.
        """
        body = {"release_id": release_id, "stage": stage, "first": int(first), "last": int(last)}
        self._journal.record("STEPS", lambda _state: body)

    def output_key(self, release_id: str, stage: str) -> bytes:
        """Return a key, derived from the population's, for the output of a stage's last start.

        `outputs` uses it.

        Raises:
            KeyLost: The identity key is gone.
            WrongState: The release is not open.
        """
        assert self._members is not None, "a ledger without a population has no key"
        started = self._journal.fresh().stage(release_id, stage).started
        which = canonical_json([release_id, stage, started])
        return hmac.digest(self._members.key(), b"output:" + which.encode(), "sha256")

    def commit(
        self,
        release_id: str,
        stage: str,
        artifacts: Mapping[str, str],
        parents: Sequence[str] = (),
    ) -> Artifacts:
        """Make the output of a stage final.

        Args:
            release_id, stage: The stage of a release.
            artifacts: SHA-256 by relative path.
            parents: Committed stages it was made from, as "stage" or "release/stage". A stage
                without mechanisms (post-processing, at no cost) must have some.

        Raises:
            StageCommitted: Other files were committed before.
            ConformanceError: Fewer steps ran than declared, or the stage has no parents.
        """
        listed = files.require_listed(stage, artifacts)

        def body(state: State) -> dict[str, Any] | None:
            done = state.stage(release_id, stage).artifacts
            if done is not None and (dict(done.files), done.parents) == (listed, tuple(parents)):
                return None
            return {
                "release_id": release_id,
                "stage": stage,
                "files": listed,
                "parents": list(parents),
            }

        made = self._journal.record("COMMITTED", body).stage(release_id, stage).artifacts
        assert made is not None
        return made

    def attach(self, release_id: str, **facts: Any) -> None:
        """Record facts about a release (runs, commits, lock hash); they decide nothing."""
        self._journal.record("ATTACHED", lambda _: {"release_id": release_id, "facts": facts})


def _start(
    release_id: str, stage: str, executed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the body of an entry STARTED."""
    try:
        canonical_json(executed)
    except (TypeError, ValueError) as error:
        message = f"what stage {stage!r} would run is not plain JSON: {error}"
        raise errors.ConformanceError(message) from None
    return {"release_id": release_id, "stage": stage, "executed": executed}
