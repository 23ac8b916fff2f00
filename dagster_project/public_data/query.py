"""The semantic query: which public labels the private images resemble, by a Gaussian mechanism.

A classifier trained only on public images assigns every private image its k most likely labels.
The query counts them for every value of every attribute and adds Gaussian noise (PrivImage, Li et
al. 2024, section 4, there for one class attribute; here for records).

Sensitivity. Let one person with image x and record y be added. The classifier is public and
processes one image at a time, so nobody else's labels change. x has k distinct labels, and y lies
in exactly one cell of each of the d attributes that are counted. Exactly d k entries of the matrix
(cells, labels) therefore change, each by one: the L2 norm of the change is exactly sqrt(d k),
whatever x and y are. With one class attribute, d = 1, this is the paper's sqrt(k).

The other form of the query needs no mechanism of its own: the most likely label is one more
column of the private table (`labels.top(images, 1)`), a function of the person's own image, so
that the table model's marginals cover it at their usual sensitivity of 1.

`selection` chooses images by the counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dagster_project.data.progress import Progress, silent
from dagster_project.privacy.calibration import gaussian_noise_multiplier
from dagster_project.privacy.events import Gaussian
from dagster_project.privacy.mechanism import Mechanism, Uses, once
from dagster_project.privacy.noise import SecureGenerator

if TYPE_CHECKING:
    from dagster_project.data.schema import Schema
    from dagster_project.public_data.pool import PublicPool
    from dagster_project.settings.recipe import Recipe

_BATCH = 256  # several of the extractor's, which share the cores
_SHRINKAGE = 0.5


@dataclass(frozen=True)
class LabelClassifier:
    """A public linear classifier on the features of a public network.

    Attributes:
        extractor: Setting of the feature extractor.
        weights: float32 (features, labels).
        bias: float32 (labels,).
    """

    extractor: str
    weights: np.ndarray
    bias: np.ndarray

    def top(self, images: np.ndarray, k: int, progress: Progress) -> np.ndarray:
        """Return the k most likely labels of each image, best first, int16 (N, k).

        Images are processed in batches of a fixed size, padded with black images, so that an
        image's labels depend only on that image: the shape of a batch may change the last digit of
        a product, and with it the winner of a tie.

        Args:
            images: uint8 (N, C, H, W).
            k: Number of labels per image, at most the number of labels.
            progress: Callback that receives the fraction done and a text.
        """
        from dagster_project.image.features import make_extractor

        network = make_extractor(self.extractor)
        chosen = np.empty((len(images), k), np.int16)
        for start in range(0, len(images), _BATCH):
            some = np.asarray(images[start : start + _BATCH])
            filled = np.zeros((_BATCH, *some.shape[1:]), np.uint8)
            filled[: len(some)] = some
            scores = network(filled, silent) @ self.weights + self.bias
            order = np.argsort(-scores, axis=1, kind="stable")[: len(some), :k]
            chosen[start : start + len(some)] = order
            progress(min(1.0, (start + _BATCH) / len(images)), "labels of the images")
        return chosen

    def save(self, file: Path) -> None:
        """Write an npz without pickle."""
        with file.open("wb") as stream:
            np.savez(
                stream, extractor=np.array(self.extractor), weights=self.weights, bias=self.bias
            )

    @classmethod
    def load(cls, file: Path) -> LabelClassifier:
        with np.load(file, allow_pickle=False) as arrays:
            return cls(str(arrays["extractor"]), arrays["weights"], arrays["bias"])


def fit_classifier(
    pool: PublicPool, *, extractor: str, most: int | None = None, progress: Progress
) -> tuple[PublicPool, LabelClassifier]:
    """Fit a classifier of the pool's labels by linear discriminant analysis with equal priors.

    Reads nothing private. The covariance within labels is shrunk half-way to a multiple of the
    identity. On clip art this costs 2 % of the accuracy on held-out clip art, while the labels of
    images of another kind (garments) become one and a half times as informative.

    Args:
        pool: The public images.
        extractor: Setting of `image.features`.
        most: If the pool has more labels than this, they are merged into this many groups with
            similar mean features (Ward's method).
        progress: Callback that receives the fraction done and a text.

    Returns:
        The pool, with groups in place of merged labels, and the classifier.
    """
    from dagster_project.image.features import make_extractor

    network = make_extractor(extractor)
    features = network(pool.images, lambda f, text: progress(0.8 * f, text))
    if most is not None and len(pool.names) > most:
        pool = _grouped(pool, features, most)
    progress(0.8, "fitting the classifier of public labels")
    means = _label_means(pool, features)
    around = features - means[pool.labels]
    covariance = around.T @ around / len(around)
    identity = np.eye(len(covariance), dtype=covariance.dtype)
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.mean(
        np.diag(covariance)
    ) * identity
    # log P(label | f) = f' S^-1 m - m' S^-1 m / 2 + a term common to all labels
    weights = np.linalg.solve(covariance, means.T)
    bias = -0.5 * np.einsum("lf,fl->l", means, weights)
    progress(1.0, "classifier of public labels fitted")
    return pool, LabelClassifier(extractor, weights.astype(np.float32), bias.astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class LabelCounts(Mechanism):
    """The counts of each public label in each cell, as one Gaussian mechanism.

    Attributes:
        noise_multiplier: Noise standard deviation divided by the sensitivity.
        attributes: d, the number of attributes counted.
        top_k: k, the number of labels counted for each image.
    """

    name: str = "semantic_query"
    stage: str = "semantic_query"
    part: ClassVar[str] = "query"
    noise_multiplier: float
    attributes: int
    top_k: int

    @classmethod
    def from_budget(
        cls, schema: Schema, recipe: Recipe, *, mu: float, share: float
    ) -> LabelCounts | None:
        if not share:
            return None
        return cls(
            noise_multiplier=gaussian_noise_multiplier(mu=mu, share=share),
            attributes=len(schema.attributes),
            top_k=recipe.semantic_query.top_k,
        )

    def event(self) -> Gaussian:
        return Gaussian(noise_multiplier=self.noise_multiplier)

    def sensitivity(self) -> float:
        """Return the L2 sensitivity of all counts together, sqrt(d k); see the module's proof."""
        return math.sqrt(self.attributes * self.top_k)

    @property
    def noise_std(self) -> float:
        """The standard deviation of the noise in each count, before rounding."""
        return self.noise_multiplier * self.sensitivity()

    def run(
        self, top: np.ndarray, one_hot: np.ndarray, *, labels: int, generator: SecureGenerator
    ) -> np.ndarray:
        """Return the counts plus N(0, noise_std^2) rounded to integers.

        Since the counts are integers, this is a function of the ideal mechanism's output.

        Args:
            top: (N, k) distinct labels of each person's image.
            one_hot: (N, cells) with exactly d ones in each row.
            labels: Public number of labels.
            generator: The operating system's randomness.

        Returns:
            (cells, labels) int64, differentially private.

        Raises:
            ValueError: If a person does not have k distinct labels or is not in exactly d cells.
        """
        people, k = top.shape
        if (
            k != self.top_k
            or len(one_hot) != people
            or (people and (np.count_nonzero(one_hot == 1, axis=1) != self.attributes).any())
        ):
            raise ValueError("every person must have k labels and one cell of each attribute")
        if k > 1 and people and (np.diff(np.sort(top, axis=1), axis=1) == 0).any():
            raise ValueError("the labels of one image must differ")
        member = np.zeros((people, labels))
        np.put_along_axis(member, top.astype(np.intp), 1.0, axis=1)
        counts = (one_hot.astype(np.float64).T @ member).astype(np.int64)  # exact: below 2^53
        return counts + generator.rounded_gaussian(counts.shape, sigma=self.noise_std)

    def observed(self, uses: Uses) -> dict[str, float]:
        return {"noise_multiplier": once(uses, "gaussian") / self.sensitivity()}


def _grouped(pool: PublicPool, features: np.ndarray, most: int) -> PublicPool:
    from sklearn.cluster import AgglomerativeClustering

    means = _label_means(pool, features)
    means = means / np.linalg.norm(means, axis=1, keepdims=True)
    group = AgglomerativeClustering(n_clusters=most).fit_predict(means)
    labels = group[pool.labels].astype(np.int32)
    # A group is named after its largest label.
    counts, names = pool.counts, []
    for number in range(most):
        inside = np.flatnonzero(group == number)
        first = pool.names[inside[np.argmax(counts[inside])]]
        names.append(f"{first} and {len(inside) - 1} more" if len(inside) > 1 else first)
    return replace(pool, labels=labels, names=tuple(names))


def _label_means(pool: PublicPool, features: np.ndarray) -> np.ndarray:
    return np.stack([features[pool.labels == i].mean(0) for i in range(len(pool.names))])
