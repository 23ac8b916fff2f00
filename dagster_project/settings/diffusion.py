"""Settings of the diffusion model: its network, pretraining, private training and sampling.

Like all sections of a recipe, they are public.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dagster_project.settings.sections import Settings


class DiffusionTraining(Settings):
    """Training of the diffusion model on data that is not private.

    Attributes:
        steps: Optimiser steps; None uses the rule of `planning`.
        batch: Batch size.
        learning_rate: Initial learning rate of Adam, with a cosine schedule to zero.
        condition_dropout: Probability that an example trains the null record.
        shift: Maximum random shift of an example for augmentation, in pixels.
    """

    steps: PositiveInt | None = None
    batch: PositiveInt = 128
    learning_rate: PositiveFloat = 2e-3
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    shift: int = Field(1, ge=0)


class PublicTrainingSettings(DiffusionTraining):
    """Training on the selected public images.

    Attributes:
        steps: Optimiser steps.
        batch: Batch size.
        learning_rate: Initial learning rate of Adam, with a cosine schedule to zero.
        condition_dropout: Probability that an example trains the null record.
        shift: Maximum random shift of an example for augmentation, in pixels.
        records: "drawn" pairs each example with a whole record drawn for it, "soft" with the soft
            record of its label.
        images: Number of prepared examples.
    """

    steps: PositiveInt = 600
    records: Literal["drawn", "soft"] = "drawn"
    images: PositiveInt = 8000


class PretrainingSettings(DiffusionTraining):
    """Pretraining on released statistics.

    Attributes:
        steps: Optimiser steps; None uses the rule of `planning`.
        batch: Batch size, without the added mean pairs.
        learning_rate: Initial learning rate of Adam, with a cosine schedule to zero.
        condition_dropout: Probability that an example trains the null record.
        shift: Maximum random shift of a mean pair, in pixels; generated images are not shifted.
        source: "generator" trains on images drawn by the fitted generator, "mean_pairs" only on
            the mean pairs, at all noise levels; "none" is no pretraining.
        images: Number of images that the generator draws.
        procedural: Number of procedural images.
        procedural_sigma: Noise level below which procedural images are used; 0 is never.
        mean_pairs: Mean pairs added to each batch of generated images.
        mean_pair_sigma: Lowest noise level at which these mean pairs are used.
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
        patch: Side of the patches that the stem folds into channels, in pixels; images are padded
            to fit.
        token_size: Width of an attribute's token.
        heads: Number of attention heads.
    """

    channels: tuple[PositiveInt, ...] = (32, 64)
    patch: PositiveInt = 2
    token_size: PositiveInt = 48
    heads: PositiveInt = 4


class DPSGDSettings(Settings):
    """Private training of the diffusion model with DP-SGD.

    Attributes:
        steps: Optimiser steps; None uses the rule of `planning`.
        most_steps: Upper limit of this rule; None is what two cores take about two minutes for.
            `--train-minutes` sets it from a measurement on the device.
        batch: Expected batch size, which fixes the public sampling rate.
        noise_draws: Noise levels drawn for each example and averaged in its gradient.
        max_grad_norm: Norm to which the gradient of each example is clipped.
        learning_rate: Initial learning rate of Adam, with a cosine schedule to zero.
        ema_half_life_share: Half-life of the weights' moving average, as a fraction of the steps.
        condition_dropout: Probability that an example trains the null record; 1 never shows a
            record, so that the model is unconditional.
        checkpoint_steps: Steps between two checkpoints.
        replays: Replays of a checkpoint interval after a crash that are paid in advance.
        engine: How the gradients of single examples are computed; "auto" measures which is fastest.
    """

    steps: PositiveInt | None = None
    most_steps: PositiveInt | None = None
    batch: PositiveInt = 512
    noise_draws: PositiveInt = 2
    max_grad_norm: PositiveFloat = 1.0
    learning_rate: PositiveFloat = 2e-3
    ema_half_life_share: PositiveFloat = 0.15
    condition_dropout: float = Field(0.1, ge=0, le=1)
    checkpoint_steps: PositiveInt = 10
    replays: int = Field(1, ge=0)
    engine: Literal["auto", "layers", "vmap", "loop"] = "auto"


class SamplerSettings(Settings):
    """How images are drawn.

    Attributes:
        model: What draws the images: the diffusion model at full size, a diffusion model of coarse
            images with a network that adds detail, or the image generator itself if no DP-SGD
            follows; None uses the rule of `planning`. The other settings only concern diffusion.
        steps: Number of noise levels.
        churn: EDM's S_churn; 0 is the deterministic sampler.
        guidance: Weight w of D_null + w (D_record - D_null); 1 is no guidance, 0 ignores the
            record.
        heun: Whether to apply the second-order correction, which doubles the network evaluations.
        chunk: Pairs drawn and written at a time.
    """

    model: Literal["two_scale", "diffusion", "generator"] | None = None
    steps: PositiveInt = 18
    churn: float = Field(10.0, ge=0)
    guidance: float = Field(1.5, ge=0)
    heun: bool = True
    chunk: PositiveInt = 1000
