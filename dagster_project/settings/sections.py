"""The sections of a recipe: public settings of each stage, and their defaults.

A stage, and the room that does its work, takes its section as it is. Nothing here is, or depends
on, private data.
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
    """A section: frozen, finite numbers, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class BudgetSplit(Settings):
    """How the budget is divided: parts of 1 / sigma^2, in any unit. What may be 0 is optional: its
    mechanism is then not in the plan, and its stage spends nothing."""

    table: Share = 0.3
    query: OptionalShare = 0.0
    pairs: OptionalShare = 0.4
    image: OptionalShare = 0.3


class TableSettings(Settings):
    """The table model.

    Attributes:
        method: "aim" or "mst".
        rounds: Pairs that AIM selects; None is planning's rule.
        selections_per_fit: Rounds between two refits of AIM's model, which take nearly all the
            time; None is half the number of attributes. Between refits the selected pairs form a
            forest while they can.
        iterations: Mirror-descent steps of each refit.
        final_iterations: Those of the last fit.
        max_model_bytes: Bound on the model's tables, and so on time and memory.
        selection_share: Part of the table's budget that pays for the selections.
    """

    method: Literal["aim", "mst"] = "aim"
    rounds: NonNegativeInt | None = None
    selections_per_fit: PositiveInt | None = None
    iterations: PositiveInt = 300
    final_iterations: PositiveInt = 2000
    max_model_bytes: PositiveFloat = 8e6
    selection_share: float = Field(0.03, gt=0, lt=1)


class PublicImagesSettings(Settings):
    """The pool of public pictures, of which the user states that it is public.

    Attributes:
        source: A folder of pictures in labelled folders, an .npz file of a pool, "procedural" for
            drawn shapes, or None for no pool. A relative path starts in the working directory.
        name: What manifest and card call a folder; None is the folder's name.
        depth: Nested folders joined to a label at most; None is all.
        smallest: Labels of fewer pictures join the one above.
        images: Number of drawn pictures of a procedural pool.
        negatives: Adds each picture's negative under a label of its own, so that the private
            pictures choose the ground.
        labels: Labels at most; more are merged to groups that look alike. None is all.
        extractor: Features of the classifier.
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
    """Which public labels the private pictures are like.

    Attributes:
        form: "histogram" is a Gaussian mechanism with the share `budget_split.query`; "column"
            makes the most likely label a hidden column of the table, at no share of its own.
        top_k: Labels counted for each picture, in a histogram.
        selected: Share of the pool that is chosen.
        min_noise_multiplier: Noise multiplier below which less noise buys nothing: labels are told
            apart by hundreds of people. At 45 the query costs under .1 of epsilon at any total.
    """

    form: Literal["histogram", "column"] = "histogram"
    top_k: PositiveInt = 3
    selected: float = Field(0.1, ge=0.01, le=0.2)
    min_noise_multiplier: float = Field(45.0, ge=0)


class DiffusionTraining(Settings):
    """Training of the diffusion model that reads nothing private.

    Attributes:
        steps, batch, learning_rate: Adam with a cosine schedule to zero.
        condition_dropout: Probability that an example trains the null record.
        shift: Augmentation by moves of up to so many pixels.
    """

    steps: PositiveInt | None = None
    batch: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    shift: int = Field(1, ge=0)


class PublicTrainingSettings(DiffusionTraining):
    """Training on the chosen public pictures.

    Attributes:
        records: Whole records drawn for each showing of a picture, or the soft ones of its label.
        images: Showings that are prepared.
    """

    steps: PositiveInt = 600
    records: Literal["drawn", "soft"] = "drawn"
    images: PositiveInt = 8000


class MeanPairsSettings(Settings):
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
        min_noise_multiplier: Noise multiplier below which less noise buys nothing: features and
            generator are the limit from there on. 0 is none.
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
    min_noise_multiplier: float = Field(1.5, ge=0)


class ImageGeneratorSettings(Settings):
    """The generator that is fitted to the mean embeddings.

    Attributes:
        latent: Size of the noise input.
        hidden: Width of the two hidden layers.
        steps, batch, learning_rate: Adam with a cosine schedule to zero, on the pooled part.
        perceptual_steps, perceptual_learning_rate: The same afterwards, on both parts; none where
            the map has no perceptual part.
        perceptual_batch: Pictures of the batch that the public network sees.
        shift: A picture is a window of a larger one, moved by chance by up to this share of its
            sides. It varies what is drawn, and a predictor learns less of what the generator writes
            into all pictures of a record.
        smoothness: Exponent s of the last layer: the coefficient at frequency f is scaled by
            (1 + f)^-s.
        total_variation: Price of the pictures' total variation, for one unit of `fit_generator`'s
            `noise`: the noisier the means, the smoother the pictures.
        saturation: Price of the mean squared excess of a pixel's logit over 6, where a picture of
            eight bits is black or white.
    """

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


class PretrainingSettings(DiffusionTraining):
    """Training on released statistics; `steps` None is planning's rule.

    Attributes:
        source: "generator" trains on pictures that the fitted generator draws, "mean_pairs" on the
            mean pairs alone, at all noise levels; "none" is no pretraining.
        images: Pictures that the generator draws.
        procedural: Number of procedural pictures.
        procedural_sigma: Noise level below which procedural pictures are used; 0 for none.
        mean_pairs: Mean pairs in each batch beside the generator's pictures. `shift` moves them;
            the generator's pictures are not moved.
        mean_pair_sigma: Lowest noise level at which they are used.
    """

    source: Literal["generator", "mean_pairs", "none"] = "generator"
    images: PositiveInt = 20_000
    procedural: PositiveInt = 4000
    procedural_sigma: float = Field(0.0, ge=0)
    mean_pairs: int = Field(16, ge=0)
    mean_pair_sigma: PositiveFloat = 3.0


class NetworkSettings(Settings):
    """Shape of the diffusion U-Net.

    Attributes:
        channels: Feature channels of each level, highest resolution first.
        patch: Side of the patches the stem folds into channels; images are padded to fit.
        token_size: Width of an attribute's token.
        heads: Attention heads.
    """

    channels: tuple[PositiveInt, ...] = (32, 64)
    patch: PositiveInt = 2
    token_size: PositiveInt = 48
    heads: PositiveInt = 4


class DPSGDSettings(Settings):
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


class SamplerSettings(Settings):
    """How images are drawn.

    Attributes:
        model: What draws them: the diffusion model, or the image generator itself where no DP-SGD
            follows; None is planning's rule. All else is for the diffusion.
        steps: Noise levels visited.
        churn: EDM's S_churn; 0 is the deterministic sampler.
        guidance: Weight w of D_null + w (D_record - D_null); 1 is none, 0 draws without the record.
        heun: Second-order correction; doubles the network's evaluations.
        chunk: Pairs drawn and written at one time.
    """

    model: Literal["diffusion", "generator"] | None = None
    steps: PositiveInt = 12
    churn: float = Field(10.0, ge=0)
    guidance: float = Field(2.5, ge=0)
    heun: bool = True
    chunk: PositiveInt = 1000
