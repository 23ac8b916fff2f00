"""Mean table-image pairs: a noisy mean image and mean embedding for every attribute value.

One Gaussian mechanism releases all sums together; everything after it is post-processing
(`released_means`).

Sensitivity. Let one person with image x and record y be added. Each of the d attributes (a
missing value is a cell like any other) puts the person into exactly one cell, so exactly d rows of
the matrix of sums change, each by phi(x) with ||phi(x)||_2 <= 1 (`embeddings.FeatureMap`), written
in integers on a public grid, which does not increase any norm (`privacy.grid`). The L2 norm of the
change is therefore at most sqrt(d), exactly, whatever x and y are. The noise is a Gaussian rounded
to the same grid: a function of the ideal Gaussian mechanism's output. The counts that turn sums
into means come from the table model, which is already paid for, so they cost nothing and do not
depend on the person here (DP-TabImage, Chen et al. 2026, theorem 2, with sigma_m infinite).

Noisy counts, if used instead, are one more column of the same matrix: a person's row is then
(phi(x), 1) in each of d cells, of norm at most sqrt(2), and the sensitivity is sqrt(2 d). With the
same scale s = noise_multiplier sqrt(2 d) for sums and counts, this is the paper's multiplier
sigma_P = (d / s^2 + d / s^2)^(-1/2) at sigma_x = sigma_m = s (its theorem 2).

Cells may be random groups instead of attribute values (`random_groups`, an ablation). The bound is
the same, because a person is in one group for each attribute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dagster_project.privacy.calibration import sampled_noise_multiplier
from dagster_project.privacy.events import Gaussian, PoissonSampledGaussian
from dagster_project.privacy.grid import UNITS, to_numbers
from dagster_project.privacy.mechanism import Mechanism, Uses, once
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.sampling import poisson_sample

if TYPE_CHECKING:
    import torch

    from dagster_project.data.schema import Schema
    from dagster_project.image.embeddings import FeatureMap
    from dagster_project.settings.recipe import Recipe


def random_groups(people: int, sizes: Sequence[int], *, generator: SecureGenerator) -> np.ndarray:
    """Draw a uniform random cell of each attribute, independently for each person.

    The draws depend on no record and on nobody's position in the data. Given all draws, the release
    is the Gaussian mechanism on cells that contain a person d times, so the bound above holds. The
    draws of the others have the same distribution with and without the person, and a mixture over
    them is no easier to distinguish than its worst component (the hockey-stick divergence is
    jointly convex). Groups drawn for positions in the data from a public seed would not be private:
    removing one person moves everybody after them to another position.

    Returns:
        (people, d) int64 in the form of records.
    """
    return np.stack([generator.integers(people, size) for size in sizes], axis=1)


@dataclass(frozen=True, kw_only=True)
class CellSums(Mechanism):
    """The sums of phi over each cell, optionally with their counts, as one Gaussian mechanism.

    Attributes:
        noise_multiplier: Noise standard deviation divided by the sensitivity.
        sample_rate: Probability that a person is in the sums.
        attributes: d, the number of cells one person is in.
        counted: Whether the number of people in each cell is released too.
    """

    name: str = "mean_pairs"
    stage: str = "mean_pairs"
    part: ClassVar[str] = "pairs"
    noise_multiplier: float
    sample_rate: float
    attributes: int
    counted: bool = False

    @classmethod
    def from_budget(
        cls, schema: Schema, recipe: Recipe, *, mu: float, share: float
    ) -> CellSums | None:
        if not share:
            return None
        rate = recipe.mean_pairs.sample_rate
        return cls(
            noise_multiplier=sampled_noise_multiplier(
                mu=mu, share=share, sample_rate=rate, steps=1
            ),
            sample_rate=rate,
            attributes=len(schema.attributes),
            counted=recipe.mean_pairs.counts == "noisy",
        )

    def event(self) -> Gaussian | PoissonSampledGaussian:
        if self.sample_rate == 1:
            return Gaussian(noise_multiplier=self.noise_multiplier)
        return PoissonSampledGaussian(
            noise_multiplier=self.noise_multiplier, sample_rate=self.sample_rate
        )

    def sensitivity(self) -> float:
        """Return the L2 sensitivity of all sums together: sqrt(d), or sqrt(2 d) with counts."""
        return math.sqrt((2 if self.counted else 1) * self.attributes)

    @property
    def noise_std(self) -> float:
        """The standard deviation of the noise in each sum."""
        return self.noise_multiplier * self.sensitivity()

    def sample(self, people: int, *, generator: SecureGenerator) -> np.ndarray:
        """Return the indices of the people to sum over: a Poisson sample, or everybody."""
        if self.sample_rate == 1:
            return np.arange(people)
        return poisson_sample(people, sample_rate=self.sample_rate, generator=generator)

    def exact(
        self,
        images: np.ndarray,
        one_hot: np.ndarray,
        feature_map: FeatureMap,
        *,
        device: torch.device | None = None,
    ) -> np.ndarray:
        """Return the exact sums of phi over each cell, or those of a part of the people. Private.

        They are integers, so the sums of any division into parts add up to the same bits.

        Args:
            images: (N, C, H, W) uint8, one for each sampled person.
            one_hot: (N, cells) with exactly `attributes` ones in each row.
            feature_map: Public map with ||phi|| <= 1.
            device: Where the features are computed; None is the CPU.

        Returns:
            (cells, feature_map.size) in units of 2^-24, int64, with one more column for the counts
            if `counted`.

        Raises:
            ValueError: If a row is not in exactly `attributes` cells.
        """
        from dagster_project.image.embeddings import CPU, cell_sums

        ones, others = (np.count_nonzero(m, axis=1) for m in (one_hot == 1, one_hot))
        if not ((ones == self.attributes).all() and (others == self.attributes).all()):
            raise ValueError("every person must be in exactly one cell of each attribute")
        sums = cell_sums(images, one_hot, feature_map, device=device or CPU)
        if self.counted:
            sums = np.column_stack([sums, one_hot.sum(axis=0).astype(np.int64) * UNITS])
        return sums

    def noisy(self, sums: np.ndarray, *, generator: SecureGenerator) -> np.ndarray:
        """Return the exact sums of everybody plus N(0, noise_std^2), on the grid of 2^-24.

        Args:
            sums: The result of `exact`, or the total of its results over parts.
            generator: The operating system's randomness.

        Returns:
            Float64 of the same shape, multiples of 2^-24; differentially private.
        """
        noise = generator.rounded_gaussian(sums.shape, sigma=self.noise_std * UNITS)
        return to_numbers(sums + noise)

    def run(
        self,
        images: np.ndarray,
        one_hot: np.ndarray,
        feature_map: FeatureMap,
        *,
        generator: SecureGenerator,
    ) -> np.ndarray:
        """Return the noisy sums of everybody, `noisy` of `exact`."""
        return self.noisy(self.exact(images, one_hot, feature_map), generator=generator)

    def observed(self, uses: Uses) -> dict[str, float]:
        return {"noise_multiplier": once(uses, "gaussian") / UNITS / self.sensitivity()}

    def verify_sample(self, uses: Uses) -> None:
        """Compare the draw in `sample` with the declared rate, as `verify` does for the noise."""
        self.require({} if self.sample_rate == 1 else {"sample_rate": once(uses, "coins")})
