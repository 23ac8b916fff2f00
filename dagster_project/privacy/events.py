"""Records of what was done to private data, without what it costs.

An event is a frozen record of the use of one mechanism, composed `count` times. `accounting`
computes costs. The list of types is closed: an event that is not here cannot be planned, charged or
read back from a ledger, and JSON never names a Python class.

All events are under the add/remove relation for one person. The sensitivity is divided out:
`noise_multiplier` is the standard deviation of the noise over the L2 sensitivity.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar


def _require_positive(event: object, *names: str) -> None:
    for name in names:
        value = getattr(event, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} must be a number, not {value!r}")
        # Subnormal noise multipliers pass `> 0` and overflow when squared and inverted.
        if not (math.isfinite(value) and value >= 1e-9):
            raise ValueError(f"{name} must be finite and positive, not {value!r}")


def _require_count(count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count must be a whole number of at least 1, not {count!r}")


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Gaussian mechanism on the whole data, `count` times.

    >>> Gaussian(noise_multiplier=5.0).count
    1
    """

    type: ClassVar[str] = "gaussian"
    noise_multiplier: float
    count: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, "noise_multiplier")
        _require_count(self.count)


@dataclass(frozen=True, kw_only=True)
class PoissonSampledGaussian:
    """Gaussian mechanism, `count` times, on a fresh Poisson sample: each person is sampled
    independently."""

    type: ClassVar[str] = "poisson_sampled_gaussian"
    noise_multiplier: float
    sample_rate: float
    count: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, "noise_multiplier", "sample_rate")
        if self.sample_rate > 1:
            raise ValueError(f"sample_rate must be at most 1, not {self.sample_rate!r}")
        _require_count(self.count)


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian:
    """Discrete Gaussian noise N_Z(0, sigma^2), `count` times, on an integer-valued histogram in
    which one person changes one cell by one (Canonne, Kamath, Steinke 2020)."""

    type: ClassVar[str] = "discrete_gaussian"
    sigma: float
    count: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, "sigma")
        _require_count(self.count)


@dataclass(frozen=True, kw_only=True)
class BoundedRange:
    """An `epsilon`-bounded-range selection, `count` times.

    When one person is added or removed, the privacy losses of any two outcomes differ by at most
    `epsilon`. The exponential mechanism with weights exp(epsilon score / (2 sensitivity)) has this
    property (Durfee and Rogers 2019).
    """

    type: ClassVar[str] = "bounded_range"
    epsilon: float
    count: int = 1

    def __post_init__(self) -> None:
        _require_positive(self, "epsilon")
        _require_count(self.count)


Event = Gaussian | PoissonSampledGaussian | DiscreteGaussian | BoundedRange
_TYPES: dict[str, type[Event]] = {
    cls.type: cls for cls in (Gaussian, PoissonSampledGaussian, DiscreteGaussian, BoundedRange)
}


def to_json(event: Event) -> dict[str, Any]:
    """Return the event as plain JSON.

    >>> to_json(BoundedRange(epsilon=0.1, count=3))
    {'type': 'bounded_range', 'epsilon': 0.1, 'count': 3}
    """
    return {"type": event.type, **asdict(event)}


def from_json(value: dict[str, Any]) -> Event:
    """Return the event that `to_json` wrote. Raises ValueError for an unknown type or field."""
    kind = value.get("type")
    cls = _TYPES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError(f"unknown event type {kind!r}: one of {sorted(_TYPES)}")
    parameters = {key: item for key, item in value.items() if key != "type"}
    if set(parameters) != {field.name for field in fields(cls)}:
        raise ValueError(f"event {kind!r} has fields {sorted(parameters)}")
    return cls(**parameters)
