"""The two private steps of table models: measuring a marginal and selecting a pair of attributes.

Nothing else in the table package reads private counts. Both steps keep to a public schedule: how
often they run, and with which noise, never depends on the data. Estimating a model from what was
measured does not belong here (`estimation`): it is post-processing.

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
    """How often a table model runs each mechanism; public, fixed before the data are read."""

    measurements: int  # discrete Gaussian, scale sigma, sensitivity 1
    selections: int  # exponential mechanism, selection_epsilon-DP


def table_sizes(schema: Schema, recipe: Recipe) -> tuple[int, ...]:
    """Cells of the table's columns, the hidden one of public labels included."""
    return (*schema.sizes, recipe.label_cells) if recipe.label_cells else schema.sizes


def table_counts(schema: Schema, recipe: Recipe) -> MechanismCounts:
    """How often the table model measures and selects."""
    d = len(table_sizes(schema, recipe))
    if recipe.table.method == "mst":  # a spanning tree
        return MechanismCounts(measurements=2 * d - 1, selections=d - 1)
    # Where the rounds are still open: 2.5 for each attribute, the most the rule ever asks for.
    rounds = recipe.table.rounds
    if rounds is None:
        rounds = min(d * (d - 1) // 2, math.ceil(2.5 * d))
    return MechanismCounts(measurements=d + rounds, selections=rounds)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A noisy marginal that has been paid for: differentially private, free to use and publish.

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
        marginals: How many are measured.
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
        # A table of one column has no pairs to select: all of the share measures it.
        measuring = share * (1 - recipe.table.selection_share) if counts.selections else share
        sigma = gaussian_noise_multiplier(mu=mu, share=measuring, count=counts.measurements)
        return cls(sigma=sigma, marginals=counts.measurements)

    def event(self) -> DiscreteGaussian:
        return DiscreteGaussian(sigma=self.sigma, count=self.marginals)

    def sensitivity(self) -> float:
        """Exactly 1 in L2, for one marginal: a person is one row, a row lies in one cell."""
        return 1.0

    def run(
        self, counts: np.ndarray, *, names: Sequence[str], generator: SecureGenerator
    ) -> Measurement:
        """One marginal of exact counts, any shape, with noise on every cell."""
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
    """AIM's score of each candidate r: ‖M_r(D) − M_r(p̂)‖₁ − √(2/π) σ n_r ([AIM], equation 1).

    The first term is what the model gets wrong about r, the second the error that measuring its
    n_r cells would add. Equation 1 has a weight w_r = Σ_s |r ∩ s| over the workload; when the
    workload is all pairs and so are the candidates, w_r = 2 + 2(d − 2) for each of them, and a
    common weight cancels against the sensitivity, so it is left out.

    Sensitivity 1: the expected counts come from released outputs alone, a person's record changes
    one cell of M_r(D) by one, and by the triangle inequality each score by at most 1. Scores can
    move in both directions, so the exponential mechanism needs its factor 2. This holds to the last
    bit: released terms are rounded to multiples of 2^-20, so that float64 holds every sum exactly.

    Args:
        counts: exact counts of each candidate.
        expected: the model's probabilities times the *noisy* total, same shapes.
        sigma: scale of the noise that a measurement would get; 0 leaves out the second term.

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
    """What the model, with its noisy total, expects each pair of attribute positions to count."""
    names = model.names
    return {(i, j): model.total * model.marginal((names[i], names[j])) for i, j in pairs}


@dataclass(frozen=True, kw_only=True)
class TableSelection(Mechanism):
    """Pairs of attributes by the exponential mechanism (McSherry and Talwar 2007).

    Attributes:
        method: The table model that asks.
        epsilon: Privacy parameter of each selection.
        rounds: How many pairs are selected.
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
        """Largest change of a score by one person: exactly 1 (`selection_scores`)."""
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
        """One candidate pair.

        Args:
            candidates: attribute positions; the list itself may depend on public and released
                facts only.
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
    """Estimates the number of records from noisy one-way marginals; free, they are paid for.

    Each marginal of n cells sums to the number of records plus noise of variance n σ²; the
    estimate is their inverse-variance mean, held within a factor of ten of the public rough count
    so that noise alone cannot give an absurd or a negative one.
    """
    weights = np.array([1 / (m.values.size * m.sigma**2) for m in one_way])
    sums = np.array([float(m.values.sum()) for m in one_way])
    return float(np.clip(np.average(sums, weights=weights), n_public / 10, n_public * 10))
