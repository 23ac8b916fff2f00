"""The refusals of the ledger, each with one sentence that says what happened and what to do.

No message holds anything derived from a private record: its names, counts and hashes are those of
plans, releases and ledger entries.
"""

from __future__ import annotations


class LedgerError(Exception):
    """Base class of the ledger's refusals; the refused call wrote nothing and spent nothing."""


class LedgerMissing(LedgerError):
    """The population had a ledger, but it is not where it should be."""


class KeyLost(LedgerMissing):
    """The population's identity key is gone or replaced: people can no longer be matched."""


class LedgerBehindAnchor(LedgerError):
    """The ledger does not contain the head to which the population was last anchored."""


class LedgerBroken(LedgerError):
    """The chain of entries does not verify.

    Attributes:
        entry: Number of the first entry at fault, None if the file itself cannot be read.
    """

    def __init__(self, message: str, entry: int | None = None) -> None:
        super().__init__(message)
        self.entry = entry


class LedgerUnavailable(LedgerError):
    """The ledger's storage cannot be used now (locked, full, unreachable)."""


class PopulationChanged(LedgerError):
    """Parameters that were fixed at the ledger's creation were changed afterwards."""


class BudgetExceeded(LedgerError):
    """The plan would exceed the lifetime cap of a cohort."""


class DeltaTooLarge(LedgerError):
    """Delta is above 1 / (10 n_public)."""


class PlanRefused(LedgerError):
    """The plan is for another population, or contradicts itself."""


class ReleaseExists(LedgerError):
    """The release's name is already used by another plan."""


class UnknownRelease(LedgerError):
    """No release has this name."""


class WrongState(LedgerError):
    """The release is not in a state that allows this (void, not opened, already opened)."""


class ConformanceError(LedgerError):
    """What is about to run, or ran, is not what the plan declared."""


class StageSpent(LedgerError):
    """The stage was started but never committed, and its noise cannot be drawn again."""


class StageCommitted(LedgerError):
    """The stage is committed, and its output is final."""


class StepsExhausted(LedgerError):
    """The stage has run all steps and replays that the plan paid for."""


class ArtifactAltered(LedgerError):
    """A committed file is missing or differs from what was committed."""
