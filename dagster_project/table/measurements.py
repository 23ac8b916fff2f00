"""The two private steps of table models: measuring a marginal and selecting a pair of attributes.

Nothing else in the table package releases private counts. Both steps follow a public schedule: how
often they run, and with how much noise, never depends on the data. Fitting a model to the
measurements is post-processing and is in `estimation`.

References:
    Canonne, Kamath, Steinke, "The discrete Gaussian for differential privacy", 2020.
    McKenna, Mullins, Sheldon, Miklau, "AIM", arXiv 2201.12677, 2022, Algorithm 2.
    McSherry, Talwar, "Mechanism design via differential privacy", 2007.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from dagster_project.privacy.calibration import gaussian_noise_multiplier, selection_epsilon
from dagster_project.privacy.events import BoundedRange, DiscreteGaussian
from dagster_project.privacy.mechanism import Mechanism, Uses, only, times
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.graphical_model import GraphicalModel

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.settings.recipe import Recipe


class MechanismCounts(NamedTuple):
    """Number of runs of each table mechanism; public and fixed before the data are read."""

    measurements: int  # discrete Gaussian, scale sigma, sensitivity 1
    selections: int  # exponential mechanism, selection_epsilon-DP


def table_sizes(schema: Schema, recipe: Recipe) -> tuple[int, ...]:
    """Return the cells of the table's columns, including the hidden one of public labels."""
    return (*schema.sizes, recipe.label_cells) if recipe.label_cells else schema.sizes


def table_counts(schema: Schema, recipe: Recipe) -> MechanismCounts:
    """Return how often the table model measures and selects."""
    d = len(table_sizes(schema, recipe))
    if recipe.table.method == "mst":  # a spanning tree
        return MechanismCounts(measurements=2 * d - 1, selections=d - 1)
    # If the rounds are not set yet: 2.5 per attribute, the maximum of `recommended_rounds`.
    rounds = recipe.table.rounds
    if rounds is None:
        rounds = min(d * (d - 1) // 2, math.ceil(2.5 * d))
    return MechanismCounts(measurements=d + rounds, selections=rounds)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A noisy marginal, differentially private and free to use and publish.

    Attributes:
        names: the attributes, in the order of the axes of `values`.
        values: noisy counts, int64, one axis for each attribute; may be negative.
        sigma: scale of the discrete Gaussian noise on every cell.
    """

    names: tuple[str, ...]
    values: np.ndarray
    sigma: float


@dataclass(frozen=True, kw_only=True)
class TableMeasurement(Mechanism):
    """Marginals with discrete Gaussian noise (Canonne, Kamath, Steinke 2020).

    Attributes:
        sigma: Scale of the noise on every cell.
        marginals: Number of marginals measured.
    """

    name: str = "table_model.measurement"
    stage: str = "table_model"
    part: ClassVar[str] = "table"
    sigma: float
    marginals: int

    @classmethod
    def from_budget(
        cls, schema: Schema, recipe: Recipe, *, mu: float, share: float
    ) -> TableMeasurement:
        counts = table_counts(schema, recipe)
        # A table of one column has no pairs to select, so the whole share goes to measuring.
        measuring = share * (1 - recipe.table.selection_share) if counts.selections else share
        sigma = gaussian_noise_multiplier(mu=mu, share=measuring, count=counts.measurements)
        return cls(sigma=sigma, marginals=counts.measurements)

    def event(self) -> DiscreteGaussian:
        return DiscreteGaussian(sigma=self.sigma, count=self.marginals)

    def sensitivity(self) -> float:
        """Return the L2 sensitivity of one marginal, 1: a person is one row, in one cell."""
        return 1.0

    def run(
        self, counts: np.ndarray, *, names: Sequence[str], generator: SecureGenerator
    ) -> Measurement:
        """Add noise to every cell of one marginal of exact counts, of any shape."""
        scale = self.sigma * self.sensitivity()
        noise = generator.discrete_gaussian(counts.shape, sigma=scale)
        return Measurement(names=tuple(names), values=counts + noise, sigma=scale)

    def observed(self, uses: Uses) -> dict[str, float]:
        kind = "discrete_gaussian"
        return {
            "sigma": only(uses, kind) / self.sensitivity(),
            "marginals": times(uses, kind),
        }


def selection_scores(
    counts: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    *,
    sigma: float,
) -> np.ndarray:
    """Return AIM's score of each candidate r: ‖M_r(D) − M_r(p̂)‖₁ − √(2/π) σ n_r (equation 1).

    The first term is the model's error on r, the second the error that measuring its n_r cells
    would add. Equation 1 has a weight w_r = Σ_s |r ∩ s| over the workload. When the workload and
    the candidates are all pairs, w_r = 2 + 2(d − 2) for each of them, and a common weight cancels
    against the sensitivity, so it is left out.

    The sensitivity is 1: the expected counts come from released outputs only, a person's record
    changes one cell of M_r(D) by one, and therefore, by the triangle inequality, each score by at
    most 1. Scores can move in both directions, so the exponential mechanism needs its factor 2.
    This holds to the last bit: released terms are rounded to multiples of 2^-20, so that float64
    represents every sum exactly.

    Args:
        counts: exact counts of each candidate.
        expected: the model's probabilities times the *noisy* total, same shapes.
        sigma: scale of the noise a measurement would have; 0 omits the second term.

    Returns:
        Scores, float64 (candidates,).
    """
    penalty = math.sqrt(2 / math.pi) * sigma
    return np.array(
        [
            np.abs(exact - _on_grid(guess)).sum() - _on_grid(penalty * exact.size)
            for exact, guess in zip(counts, expected, strict=True)
        ]
    )


def _on_grid(released: np.ndarray | float) -> np.ndarray:
    return np.rint(np.asarray(released) * 2.0**20) * 2.0**-20


def expected_counts(
    model: GraphicalModel, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], np.ndarray]:
    """Return the counts of each pair of attribute positions expected under the model."""
    names = model.names
    return {(i, j): model.total * model.marginal((names[i], names[j])) for i, j in pairs}


@dataclass(frozen=True, kw_only=True)
class TableSelection(Mechanism):
    """Selection of attribute pairs by the exponential mechanism (McSherry and Talwar 2007).

    Attributes:
        method: The table model that selects.
        epsilon: Privacy parameter of each selection.
        rounds: Number of pairs selected.
    """

    name: str = "table_model.selection"
    stage: str = "table_model"
    part: ClassVar[str] = "table"
    method: str
    epsilon: float
    rounds: int

    @classmethod
    def from_budget(
        cls, schema: Schema, recipe: Recipe, *, mu: float, share: float
    ) -> TableSelection | None:
        rounds = table_counts(schema, recipe).selections
        if not rounds:
            return None
        selecting = share * recipe.table.selection_share
        epsilon = selection_epsilon(mu=mu, share=selecting, count=rounds)
        return cls(method=recipe.table.method, epsilon=epsilon, rounds=rounds)

    def event(self) -> BoundedRange:
        return BoundedRange(epsilon=self.epsilon, count=self.rounds)

    def sensitivity(self) -> float:
        """Return the largest change of a score by one person, 1 (see `selection_scores`)."""
        return 1.0

    def run(
        self,
        candidates: Sequence[tuple[int, int]],
        *,
        exact: Mapping[tuple[int, int], np.ndarray],
        expected: Mapping[tuple[int, int], np.ndarray],
        sigma: float,
        generator: SecureGenerator,
    ) -> tuple[int, int]:
        """Select one candidate pair.

        Args:
            candidates: attribute positions; the list itself may depend only on public and released
                facts.
            exact: the pairs' exact counts.
            expected: `expected_counts` of a model fitted to released measurements.
            sigma: see `selection_scores`.
            generator: source of the private randomness.
        """
        scores = selection_scores(
            [exact[pair] for pair in candidates],
            [expected[pair] for pair in candidates],
            sigma=sigma,
        )
        chosen = generator.exponential_mechanism(
            scores, epsilon=self.epsilon, sensitivity=self.sensitivity()
        )
        return candidates[chosen]

    def observed(self, uses: Uses) -> dict[str, float]:
        kind = "exponential"
        return {"epsilon": only(uses, kind) * self.sensitivity(), "rounds": times(uses, kind)}


def noisy_total(one_way: Sequence[Measurement], *, n_public: int) -> float:
    """Estimate the number of records from noisy one-way marginals, at no privacy cost.

    Each marginal of n cells sums to the number of records plus noise of variance n σ². The
    estimate is their inverse-variance mean, clipped to within a factor of ten of the public
    approximate count, so that noise cannot give an absurd or negative estimate.
    """
    weights = np.array([1 / (m.values.size * m.sigma**2) for m in one_way])
    sums = np.array([float(m.values.sum()) for m in one_way])
    return float(np.clip(np.average(sums, weights=weights), n_public / 10, n_public * 10))
