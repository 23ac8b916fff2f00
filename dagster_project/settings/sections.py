"""The sections of a recipe: the public settings of each stage, with their defaults.

Each stage, and the room that does its work, takes its section unchanged. Nothing here is, or
depends on, private data.
"""

from __future__ import annotations

from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

Share = PositiveFloat
OptionalShare = NonNegativeFloat


class Settings(BaseModel):
    """Base class of the sections: frozen, with finite numbers and no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BudgetSplit(Settings):
    """How the budget is divided among the mechanisms, in parts of 1 / sigma^2 of any unit.

    With 0, an optional mechanism is left out of the plan and its stage spends nothing.

    Attributes:
        table: Part for the table model.
        query: Part for the semantic query; optional.
        pairs: Part for the mean pairs; optional.
        image: Part for the training of the diffusion model with DP-SGD; optional.
        minimum_people: Most that the noisy number of people may take, which can end a release
            before the rest is spent; optional. It takes less where that decides as well.
    """

    table: Share = 0.4
    query: OptionalShare = 0.0
    pairs: OptionalShare = 0.3
    image: OptionalShare = 0.3
    minimum_people: OptionalShare = 0.01


class TableSettings(Settings):
    """The table model.

    Attributes:
        method: Algorithm of the table model.
        rounds: Number of pairs that AIM selects; None uses the rule of `planning`.
        selections_per_fit: Rounds between two refits of AIM's model, which take nearly all the
            time; None is half the number of attributes. Between refits the selected pairs form a
            forest while they can.
        iterations: Mirror-descent steps of each refit.
        final_iterations: Mirror-descent steps of the last fit.
        max_model_bytes: Bound on the size of the model's tables, and so on time and memory.
        selection_share: Fraction of the table's budget that pays for the selections.
        inference: What fits the model: "numpy" compiles nothing, "mbi" uses the library of that
            name; both give the same model.
    """

    method: Literal["aim", "mst"] = "aim"
    rounds: NonNegativeInt | None = None
    selections_per_fit: PositiveInt | None = None
    iterations: PositiveInt = 300
    final_iterations: PositiveInt = 2000
    max_model_bytes: PositiveFloat = 8e6
    selection_share: float = Field(0.03, gt=0, lt=1)
    inference: Literal["numpy", "mbi"] = "mbi"


class PublicImagesSettings(Settings):
    """The pool of public images. The user asserts that it is public.

    Attributes:
        source: A folder of images in labelled folders, an .npz file of a pool, "procedural" for
            drawn shapes, or None for no pool. A relative path starts in the working directory.
        name: Name of the pool in the manifest and the card; None is the folder's name.
        depth: Maximum number of nested folder names joined into a label; None is no limit.
        smallest: Labels with fewer images are merged into the label above.
        images: Number of images drawn for a procedural pool.
        negatives: Whether each image's negative is added under a label of its own, so that the
            private images choose the background.
        labels: Maximum number of labels; similar labels are merged. None is no limit.
        extractor: Features that the classifier uses.
    """

    source: str | None = None
    name: str | None = None
    depth: PositiveInt | None = None
    smallest: PositiveInt = 8
    images: PositiveInt = 4000
    negatives: bool = True
    labels: int | None = Field(None, ge=2)
    extractor: Literal["efficientnet-lite0", "pixels"] = "efficientnet-lite0"


class SemanticQuerySettings(Settings):
    """The query for the public labels that the private images resemble.

    Attributes:
        form: "histogram" is a Gaussian mechanism paid by `budget_split.query`; "column" makes the
            most likely label a hidden column of the table, which needs no budget of its own.
        top_k: Labels counted for each image in a histogram.
        selected: Fraction of the pool that is selected.
        min_noise_multiplier: Noise multiplier below which less noise gains nothing, since labels
            are told apart by hundreds of people. At 45 the query costs less than .1 of epsilon at
            any total.
    """

    form: Literal["histogram", "column"] = "histogram"
    top_k: PositiveInt = 3
    selected: float = Field(0.1, ge=0.01, le=0.2)
    min_noise_multiplier: float = Field(45.0, ge=0)


class MeanPairsSettings(Settings):
    """Mean images and mean embeddings.

    Attributes:
        sample_rate: Expected fraction of people in the Poisson sample; 1 is one release over
            everybody.
        side: Maximum height and width of the summed images, in pixels; None is half of the image's.
        scales: Scales of the mean embeddings; unused if `pixel_share` is 1.
        frequencies: Number of frequencies of the mean embeddings; unused if `pixel_share` is 1.
        pixel_share: Fraction of the squared norm given to mean images; 1 is only mean images.
        perceptual_share: Fraction of the squared norm given to the features of a public network; 0
            is none. Embeddings and mean images divide the rest.
        perceptual_side: Height and width, in pixels, at which the public network sees the images.
        centred: Whether mid-grey is subtracted from the images before summing, which halves their
            norm.
        groups: "values" has one cell for each attribute value, "random" as many random groups (an
            ablation).
        counts: Divisor of the sums: "model" uses the table model's counts, which cost nothing,
            "noisy" uses noisy counts released with the sums.
        minimum_count: Cells with a smaller count are left out.
        maximum_noise: Cells are left out if the noise in their mean has a larger expected L2 norm;
            a mean has a norm of at most 1. What is fitted to such a mean becomes noise itself.
        consistent: Whether all attributes are given the same total.
        denoised: Whether mean images are shrunk according to their known noise.
        records: Records of the mean images: "model" takes them from the table model, "uniform" is
            an ablation.
        min_noise_multiplier: Noise multiplier below which less noise gains nothing, because the
            features and the generator become the limit. 0 is no minimum.
    """

    sample_rate: float = Field(1.0, gt=0, le=1)
    side: PositiveInt | None = 14
    scales: tuple[PositiveFloat, ...] = (1 / 3, 1 / 6)
    frequencies: PositiveInt = 1000
    pixel_share: float = Field(0.1, gt=0, le=1)
    perceptual_share: float = Field(0.5, ge=0, lt=1)
    perceptual_side: int = Field(64, ge=32)
    centred: bool = True
    groups: Literal["values", "random"] = "values"
    counts: Literal["model", "noisy"] = "model"
    minimum_count: float = Field(10.0, ge=0)
    maximum_noise: PositiveFloat = 8.0
    consistent: bool = True
    denoised: bool = True
    records: Literal["model", "uniform"] = "model"
    min_noise_multiplier: float = Field(1.5, ge=0)


class ImageGeneratorSettings(Settings):
    """The generator that is fitted to the mean embeddings.

    Attributes:
        latent: Size of the noise input.
        hidden: Width of the two hidden layers.
        steps: Adam steps on the pooled part of the embedding.
        batch: Images generated for each step.
        learning_rate: Initial learning rate of these steps, with a cosine schedule to zero.
        perceptual_steps: Adam steps afterwards on both parts of the embedding; none are taken if
            it has no perceptual part. 100 are enough for a teacher of coarse images.
        perceptual_batch: Images of each batch that the public network sees.
        perceptual_learning_rate: Initial learning rate of the steps on both parts.
        shift: Maximum random offset of the window that cuts each image from a larger one, as a
            fraction of the image's sides. It varies the images, and a predictor learns less of what
            the generator writes into all images of a record.
        smoothness: Exponent s of the last layer, which scales the coefficient at frequency f by
            (1 + f)^-s.
        total_variation: Weight of the images' total variation for one unit of `fit_generator`'s
            `noise`: the noisier the means, the smoother the images.
        saturation: Weight of the mean squared excess of a pixel's logit over 6, where an eight-bit
            image is black or white.
    """

    latent: PositiveInt = 16
    hidden: PositiveInt = 400
    steps: PositiveInt = 1200
    batch: PositiveInt = 500
    learning_rate: PositiveFloat = 1e-2
    perceptual_steps: NonNegativeInt = 100
    perceptual_batch: PositiveInt = 64
    perceptual_learning_rate: PositiveFloat = 2e-3
    shift: float = Field(0.04, ge=0, lt=0.5)
    smoothness: float = Field(1.5, ge=0)
    total_variation: float = Field(15.0, ge=0)
    saturation: float = Field(3e-3, ge=0)
