"""JointMERF: one noisy mean embedding of whole pairs, and a generator of pairs fitted to it.

The features of a pair are f(x, y) = phi(x) (x) psi(y): random Fourier features of the pooled
image, times the one-hot record over sqrt(d). Their sum over people is released once by a
Gaussian mechanism; the generator that draws image and record together is post-processing.

Sensitivity. Adding or removing one person changes the sum by that person's own f(x, y), and
||f(x, y)||_2 = ||phi(x)||_2 ||psi(y)||_2 because the norm of a tensor product is the product of
the norms. ||phi(x)|| = 1 for every image (cos^2 + sin^2 = 1 in each pair of coordinates), and
||psi(y)|| = sqrt(d / d) = 1 for every record, which has exactly one cell of each attribute, the
missing one included. So the L2 sensitivity is exactly 1 for every pair.

The generator cannot learn what f does not contain: two attributes are linked only through the
image. Beyond the paper, the features of pooled images, the generator and the penalty on variation
are those of this project's method. The perceptual features of a public network and the random
shifts of images are not used: the released method adds these to mean embeddings.

DP-MERF: Harder, Adamczewski, Park (AISTATS 2021), section 4 (products of feature maps for mixed
data). Baseline in: DP-TabImage (Chen, Lamp, Wang, Jha, arXiv 2609.00708, 2026).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from dagster_project.benchmark.joint import Joint, synthetic_pairs
from dagster_project.benchmark.pair_generator import PairGenerator, draw, fit
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress, silent
from dagster_project.data.schema import Schema
from dagster_project.image.embeddings import FeatureMap
from dagster_project.image.mean_pairs import CellSums
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.calibration import gaussian_noise_multiplier
from dagster_project.privacy.noise import SecureGenerator
from dagster_project.privacy.plan import PlannedMechanism
from dagster_project.settings.recipe import Recipe

EMBEDDING, GENERATOR = "joint_embedding", "joint_generator"


class JointMeanEmbedding(Joint):
    """Mean embedding of whole pairs, without table model and DP-SGD."""

    title = "JointMERF: one noisy mean embedding of pairs, one generator of pairs"
    part, few, many = "image_generator.steps", 2, 32

    def mechanisms(self, schema: Schema, recipe: Recipe, mu: float) -> tuple[PlannedMechanism, ...]:
        mechanism = CellSums(
            name=EMBEDDING,
            stage=EMBEDDING,
            noise_multiplier=gaussian_noise_multiplier(mu=mu, share=1.0),
            sample_rate=1.0,
            attributes=len(schema.sizes),
        )
        return (mechanism.entry(),)

    def rehearse(self, schema: Schema, recipe: Recipe, compute: Compute, pairs: Pairs) -> None:
        public = feature_map(schema, recipe)
        target = np.random.default_rng(0).normal(size=(schema.width, public.size))
        fit(
            target,
            schema.sizes,
            public,
            _shape(schema),
            1e-3,
            recipe.image_generator,
            silent,
            seed=recipe.public_seed,
        )

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        schema, recipe = release.schema, release.recipe
        public = feature_map(schema, recipe)
        mechanism = release.mechanism(CellSums, EMBEDDING)
        embedding, weights = (
            release.models / name for name in (f"{EMBEDDING}.npy", f"{GENERATOR}.safetensors")
        )

        def measure() -> None:
            people, generator = load_train(release), SecureGenerator()
            released = noisy_embedding(
                people.images,
                schema.one_hot(people.codes),
                public,
                mechanism=mechanism,
                generator=generator,
            )
            mechanism.verify(generator.uses)
            np.save(embedding, released / schema.n_public)

        def learn() -> None:
            fitted = fit(
                np.load(embedding),
                schema.sizes,
                public,
                _shape(schema),
                mechanism.noise_std / schema.n_public,
                recipe.image_generator,
                progress,
                seed=recipe.public_seed,
            )
            save_file(fitted.state_dict(), weights)

        executed = {EMBEDDING: mechanism.parameters()}
        release.once(EMBEDDING, measure, executed=executed, files=(embedding.name,), parents=())
        release.once(GENERATOR, learn, executed=None, files=(weights.name,), parents=(EMBEDDING,))
        model = PairGenerator(schema.sizes, _shape(schema), recipe.image_generator)
        model.load_state_dict(load_file(weights))
        images, codes = draw(model.eval(), n, torch.Generator().manual_seed(seed))
        return synthetic_pairs(schema, images, codes, seed)


def noisy_embedding(
    images: np.ndarray,
    one_hot: np.ndarray,
    feature_map: FeatureMap,
    *,
    mechanism: CellSums,
    generator: SecureGenerator,
) -> np.ndarray:
    """Return the sum of phi(x) (x) psi(y) over people plus N(0, noise_multiplier^2).

    A row of the tensor product is phi(x) / sqrt(d) if the person is in that cell, else zero, so
    the result is the mechanism's sums over cells, whose sensitivity is sqrt(d), over sqrt(d).

    Args:
        images: (N, C, H, W) uint8, one per person.
        one_hot: (N, cells) with exactly d ones in each row.
        feature_map: Public map with ||phi|| = 1.
        mechanism: The sums over cells.
        generator: The operating system's randomness.

    Returns:
        (cells, feature_map.size) float64, differentially private.
    """
    sums = mechanism.run(images, one_hot, feature_map, generator=generator)
    return sums / math.sqrt(mechanism.attributes)


def feature_map(schema: Schema, recipe: Recipe) -> FeatureMap:
    """Return phi: the Fourier part of the map of the recipe's mean pairs, with norm one."""
    image, given = schema.image, recipe.mean_pairs
    height, width = (min(n, given.side or -(-n // 2)) for n in (image.height, image.width))
    return FeatureMap(
        channels=image.channels,
        height=height,
        width=width,
        scales=given.scales,
        frequencies=given.frequencies,
        pixel_share=0.0,
        pixel_clip=1.0,
        seed=recipe.public_seed,
    )


def _shape(schema: Schema) -> tuple[int, int, int]:
    return schema.image.channels, schema.image.height, schema.image.width
