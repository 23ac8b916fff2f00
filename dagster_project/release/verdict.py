"""Whether a release will serve as pictures, judged by public numbers before anything is spent.

The generator learns from the mean picture of each group of people (a value of an attribute). If the
privacy noise in a typical group's mean is much larger than the contrast of a picture, the
generator learns noise: faces repeat, and shapes dissolve into blotches. The thresholds were set on
public data (docs/concepts.md): garments of 20,000 people at epsilon 1 have a ratio of .6, and their
pictures fit their records; 5,000 drawn radiographs at epsilon 2 have .9 and show bodies, but few of
the findings; 8,000 letters at epsilon 1 have 1.5 and show strokes, not always of the right letter;
6,000 drawings at epsilon 1 have 2.2 and are blots; 350 portraits at epsilon 8 have 3 to 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dagster_project.data.schema import Schema
from dagster_project.privacy import events
from dagster_project.settings.sections import MeanPairsSettings

Level = Literal["will serve", "may serve", "will not serve"]

CONTRAST = 0.25  # standard deviation of a picture's grey levels, from 0 to 1
CLEAR, BLURRED = 0.75, 2.0  # largest ratios of noise to contrast
# Without mean pictures only DP-SGD teaches; below this product of people and epsilon it learnt
# little on public data (`planning.planner.dp_sgd_steps`).
_ENOUGH_FOR_TRAINING = 2_000_000


@dataclass(frozen=True)
class Verdict:
    """A verdict on the pictures of a release.

    Attributes:
        level: "will serve", "may serve" or "will not serve".
        group: People in a typical group, from the public number and the schema.
        noise: Privacy noise in a pixel of a typical group's mean picture, divided by `CONTRAST`;
            None without mean pictures.
        reason: One sentence.
    """

    level: Level
    group: int
    noise: float | None
    reason: str

    def __str__(self) -> str:
        return f"{self.level} as pictures"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON."""
        return {"verdict": str(self), **vars(self)}


def judge(
    schema: Schema,
    *,
    n_public: int,
    epsilon: float,
    settings: Mapping[str, Any],
    mechanisms: Sequence[Mapping[str, Any]],
) -> Verdict:
    """Judge a plan or a manifest; both hold what this needs. Reads no record.

    Args:
        schema: The public contract.
        n_public: Public number of people.
        epsilon: Epsilon of the release.
        settings: The recipe as plain JSON.
        mechanisms: The planned mechanisms as plain JSON.
    """
    group = max(1, round(n_public * len(schema.attributes) / schema.width))
    released = next((item["event"] for item in mechanisms if item["name"] == "mean_pairs"), None)
    if released is None:
        enough = n_public * epsilon >= _ENOUGH_FOR_TRAINING
        return Verdict(
            level="may serve" if enough else "will not serve",
            group=group,
            noise=None,
            reason="No mean pictures are measured, and training with noise alone needs about "
            f"{_ENOUGH_FOR_TRAINING / epsilon:,.0f} people at this epsilon.",
        )
    noise = _pixel_noise(schema, n_public, settings, events.from_json(dict(released))) / CONTRAST
    level: Level = "will not serve"
    if noise <= BLURRED:
        level = "will serve" if noise <= CLEAR else "may serve"
    return Verdict(
        level=level,
        group=group,
        noise=noise,
        reason=f"The privacy noise in the mean picture of a typical group of {group:,} people is "
        f"{noise:.1f} times the contrast of a picture, where {CLEAR:g} is clear and more than "
        f"{BLURRED:g} is noise.",
    )


def _pixel_noise(
    schema: Schema, n_public: int, settings: Mapping[str, Any], event: events.Event
) -> float:
    """Return the standard deviation of the noise in a pixel of a mean picture, in grey levels.

    It follows the scales of `image.embeddings.FeatureMap` and `image.mean_pairs.CellSums`.
    """
    chosen = MeanPairsSettings(**settings.get("mean_pairs", {}))
    image, attributes, side = schema.image, len(schema.attributes), chosen.side
    height, width = (
        math.ceil(length / 2) if side is None else min(length, side)
        for length in (image.height, image.width)
    )
    clip = (0.5 if chosen.centred else 1.0) * math.sqrt(image.channels * height * width)
    share = (1 - chosen.perceptual_share) * chosen.pixel_share
    sensitivity = math.sqrt((2 if chosen.counts == "noisy" else 1) * attributes)
    sums = getattr(event, "noise_multiplier", 0.0) * sensitivity
    people = n_public * getattr(event, "sample_rate", 1.0) * attributes / schema.width
    return sums / people * clip / math.sqrt(share)
