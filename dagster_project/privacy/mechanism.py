"""The interface of every mechanism: frozen parameters, an event, a sensitivity and one way to run.

A mechanism is the only way in which private data may reach a released number. Its parameters are
what a plan declares and a ledger charges; its noise is drawn inside `run`, scaled by its own
`sensitivity()`. What was drawn is read from the generator afterwards (`verify`), not copied from
the declaration. Each mechanism is in the room whose output it releases; the list of all of them is
in `dagster_project.planning.mechanisms`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dagster_project.privacy import plan
from dagster_project.privacy.events import Event

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.settings.recipe import Recipe

Uses = Mapping[tuple[str, float], int]  # `SecureGenerator.uses`


class MechanismMismatch(Exception):
    """What ran is not what the plan declares."""


@dataclass(frozen=True, kw_only=True)
class Mechanism(ABC):
    """One mechanism with its parameters.

    A subclass's fields are its public parameters: JSON values that the plan solves for or that
    follow from public settings.

    Attributes:
        name: Unique in a plan.
        stage: The stage that runs it.
        part: The field of `BudgetSplit` that pays for it.
    """

    name: str = ""
    stage: str = ""
    part: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_budget(cls, schema: Schema, recipe: Recipe, *, mu: float, share: float) -> Self | None:
        """Return the mechanism for a share of mu^2, or None if the recipe does not use it."""

    @abstractmethod
    def event(self) -> Event:
        """Return everything that is charged, including replays."""

    @abstractmethod
    def sensitivity(self) -> float:
        """Return how much one person can change the value to which noise is added, with proof."""

    @abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Release something from private data, with noise of a `SecureGenerator`."""

    @abstractmethod
    def observed(self, uses: Uses) -> dict[str, float]:
        """Return the parameters that were used, according to the requests to the generator."""

    def verify(self, uses: Uses) -> None:
        """Compare what ran with what is declared.

        Raises:
            MechanismMismatch: A parameter differs by more than rounding.
        """
        self.require(self.observed(uses))

    def require(self, observed: Mapping[str, float]) -> None:
        """Raise MechanismMismatch if an observed parameter is not the declared one."""
        declared = self.parameters()
        for name, value in observed.items():
            if not math.isclose(value, declared[name], rel_tol=1e-9):
                raise MechanismMismatch(
                    f"{self.name} ran with {name} {value!r}, and {declared[name]!r} is declared"
                )

    def parameters(self) -> dict[str, Any]:
        """Return what the plan declares, as JSON."""
        return {name: value for name, value in asdict(self).items() if name not in _PLACE}

    def entry(self, *, cohort: str = "all") -> plan.PlannedMechanism:
        """Return the mechanism's entry in a plan, charged to a cohort."""
        return plan.PlannedMechanism(
            name=self.name,
            stage=self.stage,
            event=self.event(),
            declared=self.parameters(),
            cohort=cohort,
        )

    @classmethod
    def of(cls, entry: plan.PlannedMechanism) -> Self:
        """Return the mechanism that a plan's entry declares."""
        return cls(name=entry.name, stage=entry.stage, **entry.declared)


_PLACE = ("name", "stage")


def only(uses: Uses, kind: str) -> float:
    """Return the one parameter with which draws of a kind were requested.

    Raises:
        MechanismMismatch: There is none, or more than one.
    """
    found = [parameter for used, parameter in uses if used == kind]
    if len(found) != 1:
        raise MechanismMismatch(f"{len(found)} kinds of {kind} draws were made instead of one")
    return found[0]


def once(uses: Uses, kind: str) -> float:
    """Return the parameter of the only draw of a kind.

    Raises:
        MechanismMismatch: There was none, or more than one.
    """
    if times(uses, kind) != 1:
        raise MechanismMismatch(f"{times(uses, kind)} {kind} draws were made, not one")
    return only(uses, kind)


def times(uses: Uses, kind: str) -> int:
    """Return how often draws of a kind were requested, whatever the parameter."""
    return sum(count for (used, _), count in uses.items() if used == kind)
