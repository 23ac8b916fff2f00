"""The spending plan of one release: every mechanism, fixed and hashed before a record is read.

A plan says what will be done and what it costs. Computing costs belongs to `accounting`, solving
for noise to `calibration` and recording what is spent to `ledger`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dagster_project.privacy import events
from dagster_project.privacy.events import Event

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def canonical_json(value: Any) -> str:
    """Return JSON with one spelling per value: sorted keys, no white space, no NaN or infinity.

    >>> canonical_json({"b": 1.0, "a": (1, None)})
    '{"a":[1,null],"b":1.0}'

    Raises:
        ValueError: A number is not finite.
        TypeError: A value is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_hash(value: Any) -> str:
    """Return the SHA-256 of `canonical_json(value)`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _detached(value: Any, name: str) -> dict[str, Any]:
    """Return a JSON copy, so that later changes by the caller cannot alter a hashed plan."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} must be a mapping with text keys")
    try:
        return json.loads(canonical_json(dict(value)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold JSON values with finite numbers") from error


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def _require_text(value: Any, name: str) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text that is not empty, not {value!r}")


def is_identifier(value: Any) -> bool:
    """Return whether a value can name a release, a population, a stage or a cohort."""
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _require_identifier(value: Any, name: str) -> None:
    if not is_identifier(value):
        raise ValueError(f"{name} must be letters, digits, '.', '_' or '-', not {value!r}")


def _exact_fields(cls: type, value: Any, name: str) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    if not isinstance(value, Mapping) or set(value) != names:
        raise ValueError(f"{name} must have exactly the fields {sorted(names)}")
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class PlannedMechanism:
    """One use of private data.

    Attributes:
        name: Unique in the plan, for example "table_model.selection".
        stage: The asset that runs it.
        event: Everything that is charged, including replays.
        declared: What must equal the parameters that run (noise, clip norm, rate, divisor, ...).
        cohort: The cohort that it reads; "all" for everyone.
    """

    name: str
    stage: str
    event: Event
    declared: Mapping[str, Any]
    cohort: str = "all"

    def __post_init__(self) -> None:
        for field in ("name", "stage", "cohort"):
            _require_identifier(getattr(self, field), field)
        if not isinstance(self.event, Event):
            raise ValueError(f"event of {self.name!r} is not one of the known event types")
        object.__setattr__(self, "declared", _detached(self.declared, "declared"))

    def to_json(self) -> dict[str, Any]:
        """Return the mechanism as plain JSON."""
        return {
            "name": self.name,
            "stage": self.stage,
            "event": events.to_json(self.event),
            "declared": _detached(self.declared, "declared"),
            "cohort": self.cohort,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlannedMechanism:
        """Return the mechanism that `to_json` wrote. Raises ValueError for anything else."""
        parameters = _exact_fields(cls, value, "a planned mechanism")
        if not isinstance(parameters["event"], Mapping):
            raise ValueError("event must be a mapping")
        return cls(**parameters | {"event": events.from_json(dict(parameters["event"]))})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that one release will spend, and on what.

    Attributes:
        release_id, population, data_version, schema_hash, code_version: What the plan is bound to.
        target_epsilon, target_delta: The guarantee asked for, add/remove one person.
        n_public: Public number of people.
        discretization: Grid of the privacy loss distribution behind `composed_epsilon`.
        mechanisms: Every mechanism that reads private data.
        composed_epsilon: Joint epsilon of all mechanisms at `target_delta`, pessimistic.
        epsilon_prv: Second opinion on only the Gaussian mechanisms, None if it failed or was not
            asked for.
        recipe: All public settings.

    Raises:
        ValueError: A field is malformed, two mechanisms share a name, or the composed epsilon
            exceeds the target.
    """

    release_id: str
    population: str
    data_version: str
    schema_hash: str
    code_version: str
    target_epsilon: float
    target_delta: float
    n_public: int
    discretization: float
    mechanisms: tuple[PlannedMechanism, ...]
    composed_epsilon: float
    epsilon_prv: float | None = None
    recipe: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("release_id", "population"):
            _require_identifier(getattr(self, name), name)
        for name in ("data_version", "schema_hash", "code_version"):
            _require_text(getattr(self, name), name)
        for name in ("target_epsilon", "target_delta", "discretization", "composed_epsilon"):
            number = _number(getattr(self, name), name)
            if number <= 0:
                raise ValueError(f"{name} must be positive, not {number!r}")
            object.__setattr__(self, name, number)
        if self.epsilon_prv is not None:
            object.__setattr__(self, "epsilon_prv", _number(self.epsilon_prv, "epsilon_prv"))
        if self.target_delta >= 1:
            raise ValueError(f"target_delta must be below 1, not {self.target_delta!r}")
        if self.composed_epsilon > self.target_epsilon:
            raise ValueError(
                f"the mechanisms compose to epsilon {self.composed_epsilon:.6g}, "
                f"above the target of {self.target_epsilon:.6g}"
            )
        if type(self.n_public) is not int or self.n_public < 1:
            raise ValueError(f"n_public must be a whole number of people, not {self.n_public!r}")
        mechanisms = tuple(self.mechanisms)
        if not mechanisms or not all(isinstance(item, PlannedMechanism) for item in mechanisms):
            raise ValueError("a plan needs at least one mechanism")
        if len({item.name for item in mechanisms}) < len(mechanisms):
            raise ValueError("two mechanisms of a plan share a name")
        object.__setattr__(self, "mechanisms", mechanisms)
        object.__setattr__(self, "recipe", _detached(self.recipe, "recipe"))

    @property
    def events(self) -> tuple[Event, ...]:
        """The event of each mechanism, in order."""
        return tuple(item.event for item in self.mechanisms)

    @property
    def epsilon(self) -> float:
        """The release's epsilon at `target_delta`: `composed_epsilon`."""
        return self.composed_epsilon

    def mechanism(self, name: str) -> PlannedMechanism:
        """Return the mechanism called `name`. Raises KeyError if there is none."""
        for item in self.mechanisms:
            if item.name == name:
                return item
        raise KeyError(f"the plan has no mechanism {name!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON."""
        value = {field.name: getattr(self, field.name) for field in fields(self)}
        value["mechanisms"] = [item.to_json() for item in self.mechanisms]
        value["recipe"] = _detached(self.recipe, "recipe")
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Return the plan that `to_json` wrote. Raises ValueError for anything else."""
        parameters = _exact_fields(cls, value, "a plan")
        if not isinstance(parameters["mechanisms"], list | tuple):
            raise ValueError("mechanisms must be a list")
        mechanisms = tuple(PlannedMechanism.from_json(item) for item in parameters["mechanisms"])
        return cls(**parameters | {"mechanisms": mechanisms})

    @property
    def hash(self) -> str:
        """SHA-256 of the plan's canonical JSON, which identifies it in the ledger."""
        return canonical_hash(self.to_json())
