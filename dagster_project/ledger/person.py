"""What a person has paid for: a private query, for the steward and for the person."""

from __future__ import annotations

from dataclasses import dataclass

from dagster_project.ledger.ledger import Ledger
from dagster_project.ledger.records import CohortStatus, ReleaseRecord
from dagster_project.ledger.state import HELD_OUT


@dataclass(frozen=True, kw_only=True)
class PersonAccount:
    """What the ledger knows of one person. Private: it reveals who is in the data.

    Attributes:
        cohort: Cohort in which the person's spending is counted, None for a person never seen.
        account: That cohort's account; None if the person never spends.
        releases: The releases that were charged to the cohort, in order.
    """

    cohort: str | None
    account: CohortStatus | None
    releases: tuple[ReleaseRecord, ...]

    def __str__(self) -> str:
        if self.cohort is None:
            return (
                "nobody of this id was ever seen, so nothing was spent on them (ids count as they "
                "are spelled in the data)"
            )
        if self.account is None:
            return "held out: no mechanism ever sees this person, so nothing was spent on them"
        many = f"{len(self.releases)} release{'s' * (len(self.releases) != 1)} charged"
        return f"cohort {self.cohort}: {many}, {self.account}"


def account_of(ledger: Ledger, person_id: str) -> PersonAccount:
    """Return what a person has paid for.

    A cohort is charged as a whole: everyone in it pays for all of its releases, also for those
    before they were first seen, which over-counts.

    Args:
        ledger: The ledger, open.
        person_id: The id as the data spell it.

    Raises:
        KeyLost: The population's identity key is gone.
    """
    cohort = ledger.cohort_of(person_id)
    if cohort is None or cohort == HELD_OUT:
        return PersonAccount(cohort=cohort, account=None, releases=())
    charged = (one for one in ledger.releases().values() if cohort in one.charges and not one.void)
    return PersonAccount(cohort=cohort, account=ledger.cohort(cohort), releases=tuple(charged))
