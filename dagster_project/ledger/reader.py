"""What a ledger can be asked. Nothing here writes an entry (`ledger` does).

Every answer comes from entries that were verified against the chain.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dagster_project.data.persons import canonical_id
from dagster_project.ledger import errors, expiry, files, pricing
from dagster_project.ledger.chain import Entry, Head
from dagster_project.ledger.journal import Journal
from dagster_project.ledger.members import Members
from dagster_project.ledger.pricing import Price
from dagster_project.ledger.records import Artifacts, CohortStatus, ReleaseRecord

if TYPE_CHECKING:
    from dagster_project.privacy.plan import Plan


class LedgerReader:
    """The questions that a `Ledger` answers.

    Every method that refuses raises a `LedgerError` with one clear sentence.
    """

    def __init__(
        self, journal: Journal, members: Members | None = None, reservation_days: int = 30
    ) -> None:
        self._journal = journal
        self._members = members
        self._reservation_days = reservation_days

    @property
    def head(self) -> str:
        """Hash of the last entry, as printed in manifests."""
        return self.anchor().head

    def anchor(self) -> Head:
        """Return the end of the chain, to be kept elsewhere (`Population.write_anchor`)."""
        return self._journal.settled().head

    def entries(self) -> list[Entry]:
        """Return all entries, verified against the chain."""
        return self._journal.entries()

    def releases(self) -> dict[str, ReleaseRecord]:
        """Return all releases by name, in the order in which they were reserved."""
        return dict(self._journal.fresh().releases)

    def release(self, release_id: str) -> ReleaseRecord:
        """Return one release. Raises UnknownRelease."""
        return self._journal.fresh().release(release_id)

    def cohorts(self) -> list[CohortStatus]:
        """Return what each cohort has spent and has left."""
        return pricing.accounts(self._journal.fresh())

    def cohort(self, name: str) -> CohortStatus:
        """Return one cohort. Raises PlanRefused."""
        found = next((cohort for cohort in self.cohorts() if cohort.name == name), None)
        if found is None:
            remedy = "open it with `dptabimage ledger add-cohort`"
            raise errors.PlanRefused(f"the ledger has no cohort {name!r}: {remedy}")
        return found

    def cohort_of(self, person_id: str) -> str | None:
        """Return the cohort of a person, None if never seen. Private: it reveals members.

        Raises:
            KeyLost: The population's identity key is gone.
        """
        assert self._members is not None, "a ledger without a population has no members"
        seal = self._journal.fresh().members
        person = canonical_id(person_id, seal.id_rule if seal is not None else "exact")
        if person is None:
            return None
        return self._members.cohorts_of(self._journal, [person]).get(person)

    def price(self, plan: Plan, *, schema_public: bool = False, allow_delta: bool = False) -> Price:
        """Return what `reserve` would charge, and whether it fits.

        Nothing is written, and no record is read.

        Raises:
            DeltaTooLarge, PlanRefused: As `reserve` would.
        """
        state = self._journal.fresh()
        pricing.require_plan(plan, state, schema_public, allow_delta)
        freed = expiry.freed(state, self._reservation_days, kept=plan.release_id)
        return pricing.price(plan, pricing.charges(plan, state), state, freed=freed)

    def verify(self, *, reprice: bool = False) -> Head:
        """Read everything again from storage and check all that can be checked.

        Args:
            reprice: Also recompute every release's cost from its recorded events (seconds).

        Raises:
            LedgerBroken: An entry is at fault; the message names the first one.
        """
        state = self._journal.verified(self._members.check if self._members else None)
        if reprice:
            pricing.require_repriced(state)
        return state.head

    def committed(self, release_id: str, stage: str) -> Artifacts | None:
        """Return what a stage made, or None while it is not committed or not yet known."""
        release = self._journal.fresh().releases.get(release_id)
        return release.artifacts(stage) if release is not None else None

    def verify_artifacts(self, release_id: str, stage: str, root: Path) -> Artifacts:
        """Check a committed stage's files under `root`, byte by byte.

        Raises:
            ArtifactAltered: A file is missing, is a link, or is not what was committed.
        """
        made = self.committed(release_id, stage)
        if made is None:
            raise errors.WrongState(f"stage {stage!r} of release {release_id!r} is not committed")
        files.require_unaltered(made, Path(root))
        return made

    def close(self) -> None:
        """Release the storage."""
        self._journal.close()
