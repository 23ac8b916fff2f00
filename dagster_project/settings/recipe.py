"""Public settings of a release, stage by stage. Nothing here is, or depends on, private data.

A preset (`presets`) is one configuration of the same stages. Values that follow from public numbers
by a rule (the steps of DP-SGD, the rounds of the table) are filled in by `planner`, where the rule
and its grounds stand. Noise is not a setting: it is solved from epsilon and delta.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

Share = PositiveFloat
OptionalShare = NonNegativeFloat


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Shares(_Settings):
    """How the budget is divided: parts of 1 / sigma^2, in any unit. What may be 0 is optional: its
    mechanism is then not in the plan, and its stage spends nothing."""

    table: Share = 0.3
    query: OptionalShare = 0.0
    pairs: OptionalShare = 0.4
    image: OptionalShare = 0.3


class Table(_Settings):
    """The table model. `rounds` None: planning's rule; `selections_per_fit` None: half of d."""

    method: Literal["aim", "mst"] = "aim"
    rounds: NonNegativeInt | None = None
    selections_per_fit: PositiveInt | None = None
    iterations: PositiveInt = 300
    final_iterations: PositiveInt = 2000
    max_model_bytes: PositiveFloat = 8e6
    selection_share: float = Field(0.03, gt=0, lt=1)


class PublicImages(_Settings):
    """The pool of public pictures, of which the user states that it is public.

    Attributes:
        source: A folder of pictures in labelled folders, an .npz file of a pool, "procedural" for
            drawn shapes, or None for no pool. A relative path starts in the working directory.
        name: What manifest and card call a folder; None is the folder's name.
        depth: Nested folders joined to a label at most; None is all.
        smallest: Labels of fewer pictures join the one above.
        pictures: Number of drawn pictures of a procedural pool.
        negatives: Adds each picture's negative under a label of its own, so that the private
            pictures choose the ground.
        labels: Labels at most; more are merged to groups that look alike. None is all.
        extractor: Features of the classifier.
    """

    source: str | None = None
    name: str | None = None
    depth: PositiveInt | None = None
    smallest: PositiveInt = 8
    pictures: PositiveInt = 4000
    negatives: bool = True
    labels: int | None = Field(None, ge=2)
    extractor: Literal["efficientnet-lite0", "pixels"] = "efficientnet-lite0"


class SemanticQuery(_Settings):
    """Which public labels the private pictures are like.

    Attributes:
        form: "histogram" is a Gaussian mechanism with the share `shares.query`; "column" makes the
            most likely label a hidden column of the table, at no share of its own.
        top_k: Labels counted for each picture, in a histogram.
        selected: Share of the pool that is chosen.
        least_noise: Noise multiplier below which less noise buys nothing: labels are told apart
            by hundreds of people. At 45 the query costs under .1 of epsilon at any total.
    """

    form: Literal["histogram", "column"] = "histogram"
    top_k: PositiveInt = 3
    selected: float = Field(0.1, ge=0.01, le=0.2)
    least_noise: float = Field(45.0, ge=0)


class PublicTraining(_Settings):
    """Pre-training on the chosen public pictures. `records`: whole ones drawn for each showing of
    a picture, or the soft ones of its label. `pictures`: showings that are prepared."""

    records: Literal["drawn", "soft"] = "drawn"
    pictures: PositiveInt = 8000
    steps: PositiveInt = 600
    batch: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    shift: int = Field(1, ge=0)


class MeanPairs(_Settings):
    """Mean images and mean embeddings.

    Attributes:
        sample_rate: Share of people in the Poisson sample; 1 is one release over everybody.
        side: Largest height and width of the summed images; None is half of the image's.
        scales, frequencies: Of the mean embeddings; without meaning where `pixel_share` is 1.
        pixel_share: Part of the squared norm given to mean images; 1 is mean images alone.
        perceptual_share: Part of the squared norm given to the features of a public network; 0 is
            none. The rest is shared by embeddings and mean images.
        centred: Sums of the images less mid-grey, which halves their norm, or of the pixels.
        groups: Cells are attribute values, or as many random groups (an ablation).
        counts: Sums are divided by the table model's counts, which cost nothing, or by noisy
            counts, which are released with the sums.
        minimum_count: Cells with a smaller count are left out.
        consistent: All attributes are given one total.
        denoised: Mean images are shrunk by what is known of their noise.
        records: Records of the mean images: the table model's, or uniform (an ablation).
        least_noise: Noise multiplier below which less noise buys nothing: features and generator
            are the limit from there on. 0 is none.
    """

    sample_rate: float = Field(1.0, gt=0, le=1)
    side: PositiveInt | None = 14
    scales: tuple[PositiveFloat, ...] = (1 / 3, 1 / 6)
    frequencies: PositiveInt = 1000
    pixel_share: float = Field(0.1, gt=0, le=1)
    perceptual_share: float = Field(0.5, ge=0, lt=1)
    centred: bool = True
    groups: Literal["values", "random"] = "values"
    counts: Literal["model", "noisy"] = "model"
    minimum_count: float = Field(10.0, ge=0)
    consistent: bool = True
    denoised: bool = True
    records: Literal["model", "uniform"] = "model"
    least_noise: float = Field(1.5, ge=0)


class Generator(_Settings):
    """The generator fitted to the mean embeddings; see `pairs.generator.GeneratorSettings`."""

    latent: PositiveInt = 16
    hidden: PositiveInt = 400
    steps: PositiveInt = 1200
    batch: PositiveInt = 500
    learning_rate: PositiveFloat = 1e-2
    perceptual_steps: NonNegativeInt = 300
    perceptual_batch: PositiveInt = 64
    perceptual_learning_rate: PositiveFloat = 2e-3
    shift: float = Field(0.04, ge=0, lt=0.5)
    smoothness: float = Field(1.5, ge=0)
    total_variation: float = Field(15.0, ge=0)
    saturation: float = Field(3e-3, ge=0)


class WarmUp(_Settings):
    """Warm-up of the diffusion model on released statistics. `teacher` "mean_pairs" trains on the
    mean pairs alone, at all noise levels; "none" is no warm-up. `steps` None: planning's rule."""

    teacher: Literal["generator", "mean_pairs", "none"] = "generator"
    pictures: PositiveInt = 20_000
    procedural: PositiveInt = 4000
    procedural_sigma: float = Field(0.0, ge=0)
    steps: PositiveInt | None = None
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
    None: planning's rule. `condition_dropout` 1 never shows a record: an unconditional model."""

    steps: PositiveInt | None = None
    batch: PositiveInt = 512
    noise_draws: PositiveInt = 1
    max_grad_norm: PositiveFloat = 1.0
    learning_rate: PositiveFloat = 5e-4
    ema_half_life_share: PositiveFloat = 0.15
    condition_dropout: float = Field(0.1, ge=0, le=1)
    checkpoint_steps: PositiveInt = 10
    replays: int = Field(1, ge=0)
    engine: Literal["auto", "vmap", "loop"] = "auto"


class Sampler(_Settings):
    """How images are drawn. `model` is what draws them: the diffusion model, or the warm-up's
    generator itself where no DP-SGD follows; None is planning's rule. All else is for the
    diffusion; `guidance` 0 draws without the record."""

    model: Literal["diffusion", "generator"] | None = None
    steps: PositiveInt = 12
    churn: float = Field(10.0, ge=0)
    guidance: float = Field(2.5, ge=0)
    heun: bool = True
    chunk: PositiveInt = 1000


class Recipe(_Settings):
    """All public settings of a release."""

    shares: Shares = Shares()
    table: Table = Table()
    public_images: PublicImages = PublicImages()
    semantic_query: SemanticQuery = SemanticQuery()
    public_training: PublicTraining = PublicTraining()
    mean_pairs: MeanPairs = MeanPairs()
    generator: Generator = Generator()
    warm_up: WarmUp = WarmUp()
    network: Network = Network()
    dp_sgd: DpSgd = DpSgd()
    sampler: Sampler = Sampler()
    public_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _what_is_taught_is_released(self) -> Recipe:
        if self.warm_up.teacher != "none" and not self.shares.pairs:
            raise ValueError("without shares.pairs only warm_up.teacher=none is possible")
        return self

    @model_validator(mode="after")
    def _a_pool_is_asked_once(self) -> Recipe:
        pool, asked = self.public_images, self.semantic_query.form
        if bool(self.shares.query) != (pool.source is not None and asked == "histogram"):
            raise ValueError(
                "shares.query is for public_images.source with semantic_query.form=histogram, and "
                "both need it"
            )
        if pool.source is not None and asked == "column" and pool.labels is None:
            raise ValueError("semantic_query.form=column needs public_images.labels")
        if asked == "histogram" and (pool.labels or math.inf) < self.semantic_query.top_k:
            raise ValueError("public_images.labels must be at least semantic_query.top_k")
        return self

    @model_validator(mode="after")
    def _what_draws_is_trained(self) -> Recipe:
        fitted = self.warm_up.teacher == "generator"
        if self.sampler.model == "generator" and (self.shares.image or not fitted):
            raise ValueError(
                "sampler.model=generator needs warm_up.teacher=generator, and shares.image=0: no "
                "network is left for DP-SGD"
            )
        return self

    @property
    def label_cells(self) -> int:
        """Cells of the table's hidden column of public labels, 0 where there is none."""
        if self.public_images.source is None or self.semantic_query.form == "histogram":
            return 0
        return self.public_images.labels or 0

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Recipe:
        """A recipe that was stored whole: of a plan, or of a comparison's JSON.

        Raises:
            ValueError: It lacks a setting. Another version of this software stored it, and what
                that did need not be what the setting's default does now.
        """
        recipe = cls.model_validate(dict(stored))
        if lacking := sorted(set(_names(recipe.model_dump())) - set(_names(stored))):
            raise ValueError(
                "another version of this software made the recipe, one without the setting "
                f"{lacking[0]!r}: go on with that version"
            )
        return recipe

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
            text = fault["msg"].removeprefix("Value error, ")
            raise ValueError(f"setting {place!r}: {text.lower()}" if place else text) from None


def _names(content: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of all settings."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in _names(value))
        else:
            yield name
