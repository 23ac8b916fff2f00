"""How far pairs went towards real ones where that was measured, on public example sets.

Nothing predicts this for other data: what was measured beside a plan is quoted with its source.
Plans are compared by people times epsilon, to which the signal in a noisy mean is proportional.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NEAR = 2.0  # largest ratio of people times epsilon between a plan and a measurement beside it
MEASURED_ON = "measured on public data with about as many people times epsilon, not on yours"
NONE = "no measurement near this plan"


@dataclass(frozen=True)
class Measurement:
    """A measurement in docs/results.md.

    Attributes:
        data: The public example set.
        people: Its number of people.
        epsilon: Epsilon of the release.
        model: `sampler.model` of its recipe.
        auc, real: Mean AUC of classifiers of the attributes that learnt from synthetic pairs and
            from as many real ones, tested on held-out real pairs.
    """

    data: str
    people: int
    epsilon: float
    model: str
    auc: float
    real: float

    @property
    def way(self) -> float:
        """The share of the way from guessing (an AUC of .5) to real pairs."""
        return (self.auc - 0.5) / (self.real - 0.5)


MEASUREMENTS = (
    Measurement("garments", 20_000, 1, "two_scale", 0.899, 0.934),
    Measurement("garments", 20_000, 3, "two_scale", 0.915, 0.961),
    Measurement("garments", 20_000, 10, "two_scale", 0.904, 0.934),
    Measurement("drawn radiographs", 5_000, 2, "two_scale", 0.627, 0.749),
    Measurement("letters", 8_000, 1, "two_scale", 0.719, 0.833),
    Measurement("clip art", 6_000, 1, "two_scale", 0.744, 0.842),
    Measurement("garments", 20_000, 1, "generator", 0.889, 0.934),
    Measurement("garments", 20_000, 10, "generator", 0.894, 0.934),
    Measurement("letters", 8_000, 1, "generator", 0.718, 0.815),
    Measurement("letters", 8_000, 10, "generator", 0.748, 0.815),
    Measurement("clip art", 6_000, 1, "generator", 0.752, 0.842),
    Measurement("clip art", 6_000, 10, "generator", 0.757, 0.842),
)


def beside(people: int, epsilon: float, settings: Mapping[str, Any]) -> tuple[Measurement, ...]:
    """Return the measurements beside a plan, the nearest first; those of its image model only.

    Args:
        people: Public number of people.
        epsilon: Epsilon of the release.
        settings: The recipe as plain JSON.
    """

    def distance(one: Measurement) -> float:
        return abs(math.log(people * epsilon / (one.people * one.epsilon)))

    model = settings["sampler"]["model"]
    near = [one for one in MEASUREMENTS if one.model == model and distance(one) <= math.log(NEAR)]
    return tuple(sorted(near, key=distance))


def in_words(found: tuple[Measurement, ...]) -> str:
    """Return the range of the ways measured, and on what.

    >>> in_words(MEASUREMENTS[:1])
    '92 % (garments)'
    """
    if not found:
        return NONE
    ways = sorted(round(100 * one.way) for one in found)
    share = f"{ways[0]} %" if ways[0] == ways[-1] else f"{ways[0]} to {ways[-1]} %"
    return f"{share} ({', '.join(dict.fromkeys(one.data for one in found))})"
