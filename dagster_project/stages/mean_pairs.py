"""Measures the mean pairs on the subsample, and completes them from the table model."""

from __future__ import annotations

import numpy as np

from dagster_project.pairs import mean_pairs
from dagster_project.pairs.embeddings import FeatureMap
from dagster_project.pairs.mean_pairs import MeanPairs
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.stages import table_model
from dagster_project.stages.pairs import take_subsample
from dagster_project.stages.release import Progress, Release
from dagster_project.table.graphical_model import GraphicalModel

FILES = ("mean_pairs/mean_pairs.npz", "mean_pairs/feature_map.json")


def feature_map(release: Release) -> FeatureMap:
    """The public feature map of this release's images."""
    settings, image = release.recipe.mean_pairs, release.schema.image
    height, width = min(image.height, settings.side), min(image.width, settings.side)
    return FeatureMap(
        channels=image.channels,
        height=height,
        width=width,
        scales=settings.scales,
        frequencies=settings.frequencies,
        pixel_share=settings.pixel_share,
        # The largest norm a mid-grey-centred picture can have: nothing is ever clipped.
        pixel_clip=0.5 * (image.channels * height * width) ** 0.5,
        seed=release.recipe.public_seed,
    )


def measure(release: Release, progress: Progress) -> bool:
    """Spends the `mean_pairs` mechanism once and writes `models/<id>/mean_pairs`."""
    declared = release.declared("mean_pairs")
    attributes = len(release.schema.attributes)
    executed = {
        "mean_pairs": {
            "noise_multiplier": declared["noise_multiplier"],
            "sample_rate": release.recipe.mean_pairs.sample_rate,
            "clip_norm": 1,
            "attributes": attributes,
            "sampler": "poisson",
        }
    }

    def run() -> None:
        progress(0.0, "summing features")
        people, public_map = take_subsample(release), feature_map(release)
        sums = mean_pairs.noisy_sums(
            people.images,
            release.schema.one_hot(people.codes),
            public_map,
            attributes=attributes,
            noise_multiplier=declared["noise_multiplier"],
            generator=SecureGenerator(),
        )
        model = table_model.load(release).model
        mean_pairs.complete(
            sums,
            sizes=release.schema.sizes,
            probabilities=one_way(model),
            soft_records=model.conditional_blocks(),
            people=model.total * release.recipe.mean_pairs.sample_rate,
            noise_scale=declared["noise_multiplier"] * mean_pairs.sensitivity(attributes),
            feature_map=public_map,
            minimum_count=release.recipe.mean_pairs.minimum_count,
        ).save(release.models / "mean_pairs")
        progress(1.0, "mean pairs released")

    return release.once("mean_pairs", run, executed=executed, files=FILES, parents=("table_model",))


def one_way(model: GraphicalModel) -> np.ndarray:
    """All one-way probabilities joined, (cells,)."""
    return np.concatenate([model.marginal((name,)) for name in model.names])


def load(release: Release) -> MeanPairs:
    """The released mean pairs."""
    return MeanPairs.load(release.models / "mean_pairs")
