"""Measures the mean pairs on the subsample, and completes them from the table model.

Without the mechanism in the plan, the stage spends nothing and writes an empty set.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from dagster_project.data.progress import Progress
from dagster_project.image import released_means
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums, random_groups
from dagster_project.image.released_means import MeanPairs
from dagster_project.pipeline import feature_sums, subsample, table_model
from dagster_project.pipeline.release import Release
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.table.graphical_model import GraphicalModel

FILES = ("mean_pairs/mean_pairs.npz", "mean_pairs/feature_map.json")


def feature_map(release: Release) -> FeatureMap:
    """Return the public feature map of this release's images."""
    settings, image = release.recipe.mean_pairs, release.schema.image
    if settings.side is None:
        height, width = math.ceil(image.height / 2), math.ceil(image.width / 2)
    else:
        height, width = min(image.height, settings.side), min(image.width, settings.side)
    # The largest norm an image can have, with or without centring, so nothing is ever clipped.
    largest = (0.5 if settings.centred else 1.0) * (image.channels * height * width) ** 0.5
    return FeatureMap(
        channels=image.channels,
        height=height,
        width=width,
        scales=settings.scales,
        frequencies=settings.frequencies,
        pixel_share=settings.pixel_share,
        pixel_clip=largest,
        centred=settings.centred,
        perceptual_share=settings.perceptual_share,
        perceptual_side=settings.perceptual_side,
        seed=release.recipe.public_seed,
    )


def measure(release: Release, progress: Progress) -> bool:
    """Spend the `mean_pairs` mechanism once, if planned, and write `models/<id>/mean_pairs`."""
    if not release.spends("mean_pairs"):
        empty = MeanPairs.none(release.schema.width, feature_map(release))
        return release.once(
            "mean_pairs",
            lambda: empty.save(_folder(release)),
            executed=None,
            files=FILES,
            parents=("table_model",),
        )
    mechanism = release.mechanism(CellSums)
    return release.once(
        "mean_pairs",
        lambda exact: _release(release, mechanism, exact),
        executed={mechanism.name: mechanism.parameters()},
        files=FILES,
        parents=("table_model",),
        prepare=lambda: _sum(release, mechanism, progress),
    )


def _sum(release: Release, mechanism: CellSums, progress: Progress) -> np.ndarray:
    """Return the exact sums over the sampled people. Private."""
    chosen, groups = subsample.load(release), None
    if release.recipe.mean_pairs.groups == "random":
        sizes = release.schema.sizes
        groups = random_groups(len(chosen), sizes, generator=SecureGenerator())
    function = feature_sums.ShardSums(
        mechanism, release.schema, feature_map(release), release.compute
    )
    with release.compute.open_workers() as workers:
        return feature_sums.cell_sums(release, function, chosen, groups, workers, progress)


def _release(release: Release, mechanism: CellSums, exact: np.ndarray) -> None:
    """Add the noise and write the mean pairs."""
    subsample.discard(release)
    settings, schema = release.recipe.mean_pairs, release.schema
    public_map, generator = feature_map(release), SecureGenerator()
    sums = mechanism.noisy(exact, generator=generator)
    mechanism.verify(generator.uses)
    model, uniform = table_model.load(release).model, released_means.uniform_records(schema.sizes)
    released_means.complete(
        sums[:, : public_map.size],
        sizes=schema.sizes,
        probabilities=uniform[0] if settings.groups == "random" else one_way(model),
        soft_records=uniform if settings.records == "uniform" else model.conditional_blocks(),
        people=model.total * mechanism.sample_rate,
        noise_scale=mechanism.noise_std,
        feature_map=public_map,
        minimum_count=settings.minimum_count,
        maximum_noise=settings.maximum_noise,
        counts=sums[:, -1] if mechanism.counted else None,
        consistent=settings.consistent,
    ).save(_folder(release))


def one_way(model: GraphicalModel) -> np.ndarray:
    """Return all one-way probabilities, concatenated, (cells,)."""
    return np.concatenate([model.marginal((name,)) for name in model.names])


def load(release: Release) -> MeanPairs:
    """Load the released mean pairs, an empty set if the plan has no mechanism for them."""
    return MeanPairs.load(_folder(release))


def mean_images(release: Release) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean images (M, C, h, w) in [0, 1] and soft records (M, cells) of the used cells.

    The images are denoised if the recipe says so.
    """
    released = load(release)
    kept = released.shares > 0
    images = released.images(denoised=release.recipe.mean_pairs.denoised)
    return images[kept], released.soft_records[kept]


def _folder(release: Release) -> Path:
    return release.models / "mean_pairs"
