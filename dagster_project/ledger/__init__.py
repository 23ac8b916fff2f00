"""The privacy budget of a population, durable across runs, crashes, releases and processes."""

from dagster_project.ledger.chain import Entry, Head
from dagster_project.ledger.errors import (
    ArtifactAltered,
    BudgetExceeded,
    ConformanceError,
    DeltaTooLarge,
    KeyLost,
    LedgerBehindAnchor,
    LedgerBroken,
    LedgerError,
    LedgerMissing,
    LedgerUnavailable,
    PlanRefused,
    PopulationChanged,
    ReleaseExists,
    StageCommitted,
    StageSpent,
    StepsExhausted,
    UnknownRelease,
    WrongState,
)
from dagster_project.ledger.files import file_sha256
from dagster_project.ledger.ledger import Ledger
from dagster_project.ledger.pricing import Price
from dagster_project.ledger.records import (
    Artifacts,
    CohortStatus,
    ReleaseRecord,
    Reservation,
    Stage,
)

__all__ = [
    "ArtifactAltered",
    "Artifacts",
    "BudgetExceeded",
    "CohortStatus",
    "ConformanceError",
    "DeltaTooLarge",
    "Entry",
    "Head",
    "KeyLost",
    "Ledger",
    "LedgerBehindAnchor",
    "LedgerBroken",
    "LedgerError",
    "LedgerMissing",
    "LedgerUnavailable",
    "PlanRefused",
    "PopulationChanged",
    "Price",
    "ReleaseExists",
    "ReleaseRecord",
    "Reservation",
    "Stage",
    "StageCommitted",
    "StageSpent",
    "StepsExhausted",
    "UnknownRelease",
    "WrongState",
    "file_sha256",
]
