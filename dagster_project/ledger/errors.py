"""What the ledger refuses, each as one sentence that says what happened and what to do.

No message holds anything derived from a private record: names, counts and hashes here are those
of plans, releases and ledger entries.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Any refusal of the ledger; nothing was written and nothing was spent by the refused call."""


class LedgerMissing(LedgerError):
    """The population had a ledger, and it is not where it should be."""


class KeyLost(LedgerMissing):
    """The population's identity key is gone or is another one: people can no longer be matched."""


class LedgerBehindAnchor(LedgerError):
    """The ledger does not contain the head the population was last anchored to."""


class LedgerBroken(LedgerError):
    """The chain of entries does not verify.

    Attributes:
        entry: number of the first entry at fault, None where the file itself cannot be read.
    """

    def __init__(self, message: str, entry: int | None = None) -> None:
        super().__init__(message)
        self.entry = entry


class LedgerUnavailable(LedgerError):
    """The ledger's storage cannot be used now (locked, full, unreachable)."""


class PopulationChanged(LedgerError):
    """Parameters fixed when the ledger was created were altered afterwards."""


class BudgetExceeded(LedgerError):
    """The plan would pass the lifetime cap of a cohort."""


class DeltaTooLarge(LedgerError):
    """Delta is above 1 / (10 n_public)."""


class PlanRefused(LedgerError):
    """The plan is for another population, or contradicts itself."""


class ReleaseExists(LedgerError):
    """The release's name already stands for another plan."""


class UnknownRelease(LedgerError):
    """No release has this name."""


class WrongState(LedgerError):
    """The release is not in a state that allows this (void, not opened, already opened)."""


class ConformanceError(LedgerError):
    """What is about to run, or ran, is not what the plan declared."""


class StageSpent(LedgerError):
    """The stage was started and never committed: its noise cannot be drawn again."""


class StageCommitted(LedgerError):
    """The stage is committed: what it made is final."""


class StepsExhausted(LedgerError):
    """The stage has run every step and every replay that the plan paid for."""


class ArtifactAltered(LedgerError):
    """A committed file is missing or is not what was committed."""
