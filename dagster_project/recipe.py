"""Public settings of a release, stage by stage. Nothing here is, or depends on, private data.

A preset is one configuration of the same stages. Values that follow from public numbers by a rule
(the steps of DP-SGD, the rounds of the table) are filled in by `planning`, where the rule and its
grounds stand. Noise is not a setting: it is solved from epsilon and delta.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

Share = PositiveFloat


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shares(_Settings):
    """How the budget is divided: parts of 1 / sigma^2, in any unit."""

    table: Share = 0.15
    pairs: Share = 0.55
    image: Share = 0.30


class Table(_Settings):
    """The table model. `rounds` None: planning's rule; `selections_per_fit` None: half of d."""

    method: Literal["aim", "mst"] = "aim"
    rounds: PositiveInt | None = None
    selections_per_fit: PositiveInt | None = None
    iterations: PositiveInt = 300
    final_iterations: PositiveInt = 2000
    max_model_bytes: PositiveFloat = 8e6
    selection_share: float = Field(0.03, gt=0, lt=1)


class MeanPairs(_Settings):
    """Mean images and mean embeddings. `sample_rate` 1 is one release over everybody."""

    sample_rate: float = Field(1.0, gt=0, le=1)
    side: PositiveInt = 14
    scales: tuple[PositiveFloat, ...] = (1 / 3, 1 / 6)
    frequencies: PositiveInt = 1000
    pixel_share: float = Field(0.1, gt=0, lt=1)
    minimum_count: float = Field(10.0, ge=0)


class Generator(_Settings):
    """The generator fitted to the mean embeddings."""

    latent: PositiveInt = 16
    hidden: PositiveInt = 400
    steps: PositiveInt = 1200
    batch: PositiveInt = 500
    learning_rate: PositiveFloat = 1e-2
    smoothness: float = Field(0.5, ge=0)


class WarmUp(_Settings):
    """Warm-up of the diffusion model on released statistics."""

    pictures: PositiveInt = 20_000
    procedural: PositiveInt = 4000
    procedural_sigma: float = Field(0.4, ge=0)
    steps: PositiveInt = 600
    batch: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    prototypes: int = Field(16, ge=0)
    prototype_sigma: PositiveFloat = 3.0
    shift: int = Field(1, ge=0)


class Network(_Settings):
    """The diffusion U-Net."""

    channels: tuple[PositiveInt, ...] = (32, 64)
    patch: PositiveInt = 2
    token_size: PositiveInt = 48
    heads: PositiveInt = 4


class DpSgd(_Settings):
    """Private fine-tuning. `batch` is the expected one; it fixes the public sampling rate. `steps`
    None: planning's rule."""

    steps: PositiveInt | None = None
    batch: PositiveInt = 512
    noise_draws: PositiveInt = 1
    max_grad_norm: PositiveFloat = 1.0
    learning_rate: PositiveFloat = 5e-4
    ema_half_life_share: PositiveFloat = 0.15
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    checkpoint_steps: PositiveInt = 10
    replays: int = Field(1, ge=0)
    engine: Literal["auto", "vmap", "loop"] = "auto"


class Sampler(_Settings):
    """How images are drawn from the model."""

    steps: PositiveInt = 12
    churn: float = Field(10.0, ge=0)
    guidance: PositiveFloat = 1.5
    heun: bool = True
    chunk: PositiveInt = 1000


class Recipe(_Settings):
    """All public settings of a release."""

    shares: Shares = Shares()
    table: Table = Table()
    mean_pairs: MeanPairs = MeanPairs()
    generator: Generator = Generator()
    warm_up: WarmUp = WarmUp()
    network: Network = Network()
    dp_sgd: DpSgd = DpSgd()
    sampler: Sampler = Sampler()
    public_seed: int = Field(0, ge=0)

    def changed(self, changes: dict[str, Any]) -> Recipe:
        """A copy with changes by dotted name, checked again.

        >>> Recipe().changed({"dp_sgd.steps": 10}).dp_sgd.steps
        10

        Raises:
            ValueError: An unknown name or a value out of range.
        """
        content = self.model_dump()
        for name, value in changes.items():
            section, dot, field = name.rpartition(".")
            target = content.get(section) if dot else content
            if not isinstance(target, dict) or field not in target:
                raise ValueError(f"unknown setting {name!r}")
            target[field] = value
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise ValueError(f"setting {place!r}: {fault['msg'].lower()}") from None
