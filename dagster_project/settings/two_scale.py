"""Settings of the two-scale image model: a coarse diffusion model, and a network that adds detail.

Like all sections of a recipe, they are public.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from dagster_project.settings.sections import Settings


class CoarseSettings(Settings):
    """The diffusion model of coarse images.

    Attributes:
        network: "mixer" is the patch mixer below, "unet" the U-Net of `network`.
        side: Maximum height and width of the coarse images, in pixels.
        patch: Side of a patch, in pixels; a patch is one token.
        width: Length of a token.
        token_width: Hidden width of the mixing across tokens.
        depth: Number of blocks.
        handover: Noise level below which the finisher draws, a small convolutional network that is
            only trained on the generator's images. The noise that DP-SGD leaves in the weights
            shows as speckle below it.
        lowest_level: Lowest noise level that trains the coarse network, as a fraction of the
            handover. Far below the handover the network never draws, and half of the usual
            training levels are there.
        finisher_channels: Feature channels of the finisher.
        finisher_steps: Optimiser steps of the finisher, each on 64 images.
    """

    network: Literal["mixer", "unet"] = "mixer"
    side: PositiveInt = 16
    patch: PositiveInt = 2
    width: PositiveInt = 32
    token_width: PositiveInt = 32
    depth: PositiveInt = 3
    handover: NonNegativeFloat = 0.4
    lowest_level: float = Field(0.75, ge=0, le=1)
    finisher_channels: PositiveInt = 24
    finisher_steps: PositiveInt = 700


class DetailSettings(Settings):
    """The network that turns a coarse image and its record into an image of full size.

    Attributes:
        channels: Feature channels.
        depth: Number of residual blocks.
        images: Number of coarse images that the steps draw from.
        steps: Adam steps.
        batch: Images of each step, all of which the public network sees.
        learning_rate: Initial learning rate of Adam, with a cosine schedule to zero.
        faithfulness: Weight of the squared distance between the result, pooled, and the coarse
            image.
        total_variation: Weight of the images' total variation for one unit of noise in the means,
            as in `image_generator`.
    """

    channels: PositiveInt = 24
    depth: PositiveInt = 4
    images: PositiveInt = 4000
    steps: PositiveInt = 300
    batch: PositiveInt = 64
    learning_rate: PositiveFloat = 3e-3
    faithfulness: NonNegativeFloat = 0.1
    total_variation: NonNegativeFloat = 15.0
