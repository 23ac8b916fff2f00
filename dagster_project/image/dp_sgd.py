"""DP-SGD: Poisson batches, per-example clipping, noise from the operating system's generator.

Abadi et al., "Deep learning with differential privacy", 2016, algorithm 1. The cost of a run is
fixed beforehand in the plan, and the ledger authorises each range of steps before it runs. The
training loop is in `private_training`.

Sensitivity. Under add/remove of one person, whose single pair is sampled independently into each
step's batch, the sum of clipped gradients changes by one term of L2 norm at most `max_grad_norm`:
every example's gradient is clipped to that norm and truncated to the grid, and the bound holds
exactly (a gradient with a non-finite entry is set to zero first). Nobody else's term changes, not
even in its last bit: examples do not interact in the networks (which normalise only within an
example, by GroupNorm or LayerNorm), they are processed in microbatches of a fixed size in which the
place makes no difference (`microbatches.microbatch_size`; tried on drawn input before the first
step, `gradients.ignores_places`), kernels are deterministic, and the diffusion's noise of a person
is a function of a fresh secret key of the step and of that person's own content
(`microbatches.own_draws`). Sums of integers are exact in any order. The divisor is
the public `expected_batch_size`, never the realised one. The step is therefore a Poisson-sampled
Gaussian mechanism with multiplier `noise_multiplier`, rounded to the grid.

A step may be computed by several engines (`gradients`) and threads (`threads`). All give each
person's own gradient, which is clipped by itself, so the sensitivity has no error term. Ghost
clipping would sum in floating point without these gradients: with an error of at most e in L2 norm,
one person would change the rounded sum by at most (max_grad_norm + 2 e) / g + sqrt(parameters) for
a grid of spacing g, and the noise would have to be scaled to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dagster_project.privacy.calibration import sampled_noise_multiplier
from dagster_project.privacy.events import PoissonSampledGaussian
from dagster_project.privacy.grid import UNITS
from dagster_project.privacy.mechanism import Mechanism, MechanismMismatch, Uses, only, times

if TYPE_CHECKING:
    import torch

    from dagster_project.data.schema import Schema
    from dagster_project.settings.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class DPSGD(Mechanism):
    """Private training of one network.

    Attributes:
        noise_multiplier: Noise standard deviation divided by `max_grad_norm`.
        max_grad_norm: L2 norm to which an example's gradient is clipped.
        sample_rate: Probability that a person is in a step's batch.
        expected_batch_size: Public divisor, n_public times sample_rate.
        steps: Steps of the run.
        replay_steps: Further steps, paid for in advance, that may be drawn again after a crash.
    """

    name: str = "image_model"
    stage: str = "image_model"
    part: ClassVar[str] = "image"
    noise_multiplier: float
    max_grad_norm: float
    sample_rate: float
    expected_batch_size: float
    steps: int
    replay_steps: int

    @classmethod
    def from_budget(
        cls, schema: Schema, recipe: Recipe, *, mu: float, share: float, **place: str
    ) -> DPSGD | None:
        """See `Mechanism`; `place` may set another name and stage.

        Raises:
            ValueError: If the recipe does not set the number of steps.
        """
        if not share:
            return None
        sgd = recipe.dp_sgd
        if sgd.steps is None:
            raise ValueError("the steps of DP-SGD are not fixed yet: planning fills them in")
        rate = min(1.0, sgd.batch / schema.n_public)
        # All steps, including replays after a crash.
        replay_steps = sgd.replays * min(sgd.checkpoint_steps, sgd.steps)
        noise = sampled_noise_multiplier(
            mu=mu, share=share, sample_rate=rate, steps=sgd.steps + replay_steps
        )
        return cls(
            noise_multiplier=noise,
            max_grad_norm=sgd.max_grad_norm,
            sample_rate=rate,
            expected_batch_size=rate * schema.n_public,
            steps=sgd.steps,
            replay_steps=replay_steps,
            **place,
        )

    def event(self) -> PoissonSampledGaussian:
        return PoissonSampledGaussian(
            noise_multiplier=self.noise_multiplier,
            sample_rate=self.sample_rate,
            count=self.steps + self.replay_steps,
        )

    def sensitivity(self) -> float:
        """Return the L2 sensitivity of a step's sum of clipped gradients (see the module)."""
        return self.max_grad_norm

    def run(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Run `private_training.train_private` with these parameters."""
        from dagster_project.image.private_training import train_private

        return train_private(*args, mechanism=self, **kwargs)

    def observed(self, uses: Uses) -> dict[str, float]:
        """Return the observed parameters, without the number of steps.

        A run resumed from a checkpoint makes fewer steps; the ledger authorises their total number,
        range by range.
        """
        steps = times(uses, "gaussian")
        if not steps:
            return {}
        if not steps == times(uses, "coins") == times(uses, "divisor"):
            raise MechanismMismatch("a step has one Poisson sample, one noise and one division")
        if steps > self.steps + self.replay_steps:
            raise MechanismMismatch(f"{steps} steps ran, more than are paid for")
        found = {
            "noise_multiplier": only(uses, "gaussian") / UNITS,
            "expected_batch_size": only(uses, "divisor"),
            "sample_rate": only(uses, "coins"),
        }
        # A run in which nobody was ever sampled clips nothing.
        if times(uses, "max_grad_norm"):
            found["max_grad_norm"] = only(uses, "max_grad_norm")
        return found
