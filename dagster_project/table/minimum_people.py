"""A noisy number of people, which may end a release before its other mechanisms spend anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dagster_project.data.persons import HELDOUT_SHARE
from dagster_project.privacy.calibration import gaussian_noise_multiplier
from dagster_project.privacy.events import DiscreteGaussian
from dagster_project.privacy.mechanism import Mechanism, Uses, once
from dagster_project.privacy.noise import SecureGenerator

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.settings.recipe import Recipe

_HALF = 0.5  # of the expected people: the default minimum
_ENOUGH = (
    16  # less noise than a sixteenth of the people would not change a decision at half of them
)
_FALSE_STOPS = 3.1  # standard deviations above the minimum of a complete data set: 1 in 1000
_LEAST = 1.0  # standard deviations of the minimum above nobody; below it, the count decides nothing


@dataclass(frozen=True, kw_only=True)
class MinimumPeople(Mechanism):
    """The number of training people with discrete Gaussian noise, held against a public minimum.

    The noise is the larger of what the share of the budget pays for and a sixteenth of the people
    that the public number lets expect: a decision at half of them needs no more, so that the cost
    of the count falls with the square of their number.

    Attributes:
        sigma: Standard deviation of the noise, in people.
        minimum: The release goes on if the noisy number is at least this.

    Source: discrete Gaussian noise, Canonne, Kamath, Steinke (2020).
    """

    name: str = "minimum_people"
    stage: str = "minimum_people"
    part: ClassVar[str] = "minimum_people"
    sigma: float
    minimum: int

    @classmethod
    def from_budget(
        cls, schema: Schema, recipe: Recipe, *, mu: float, share: float
    ) -> MinimumPeople | None:
        """Return the count, or None if it is not wanted or could not decide anything.

        By default the minimum is half of the expected people, or less where the noise is so large
        that a complete data set would be stopped more often than once in a thousand releases.
        """
        if not share or recipe.minimum_people == 0:
            return None
        people = expected_people(schema.n_public)
        sigma = max(gaussian_noise_multiplier(mu=mu, share=share), people / _ENOUGH)
        if recipe.minimum_people is not None:
            return cls(sigma=sigma, minimum=recipe.minimum_people)
        minimum = math.floor(min(_HALF * people, people - _FALSE_STOPS * sigma))
        return cls(sigma=sigma, minimum=minimum) if minimum >= _LEAST * sigma else None

    def event(self) -> DiscreteGaussian:
        return DiscreteGaussian(sigma=self.sigma)

    def sensitivity(self) -> float:
        """Exactly 1: one person more or fewer changes the number by one."""
        return 1.0

    def run(self, people: int, *, generator: SecureGenerator) -> int:
        """Return the noisy number; it can be negative."""
        noise = generator.discrete_gaussian(1, sigma=self.sigma * self.sensitivity())
        return people + int(noise[0])

    def observed(self, uses: Uses) -> dict[str, float]:
        return {"sigma": once(uses, "discrete_gaussian") / self.sensitivity()}


def expected_people(n_public: int) -> int:
    """Return how many people the public number lets expect in the training pairs."""
    return round((1 - HELDOUT_SHARE) * n_public)
