"""Selection of public images, with records, from noisy label counts. Free post-processing.

The counts (cells, labels) come from the Gaussian query or, scaled by the table's noisy total,
from a table model with the label as a column. They tell which public labels the private images
with an attribute value resemble, and hence both which public images to learn from and which records
go with them: P(record | label). `image.pretraining` trains on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def select_images(
    counts: np.ndarray,
    pool_labels: np.ndarray,
    *,
    share: float,
    noise_std: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Select the public images of the labels with the largest counts, a `share` of the pool.

    This follows PrivImage, section 4, where a share of 5 to 20 % does best. Every cell in turn
    proposes its best label, then every cell its second best, and so on; larger counts go first.
    The images of the last label are subsampled at random to meet the share.

    Args:
        counts: (cells, labels) noisy counts.
        pool_labels: (N,) labels of the pool.
        share: Selected share of the pool, in (0, 1].
        noise_std: Standard deviation of the noise in each count. Counts below √(2 ln labels) times
            this, the expected maximum of pure noise over all labels, are not treated as signal and
            are used only if the others do not suffice.
        rng: Public randomness.

    Returns:
        Positions in the pool, in ascending order.
    """
    if not 0 < share <= 1:
        raise ValueError("the share of selected public images must lie in (0, 1]")
    wanted = max(1, round(share * len(pool_labels)))
    chosen: list[np.ndarray] = []
    for label in label_order(counts, noise_std=noise_std):
        rows = np.flatnonzero(pool_labels == label)
        if len(rows) >= wanted:
            chosen.append(rng.choice(rows, wanted, replace=False))
            break
        chosen.append(rows)
        wanted -= len(rows)
    return np.sort(np.concatenate(chosen))


def label_order(counts: np.ndarray, *, noise_std: float) -> list[int]:
    """Return all labels in the order in which the cells propose them."""
    cells, labels = counts.shape
    ranked = np.argsort(-counts, axis=1, kind="stable")  # (cells, rank)
    sorted_counts = np.take_along_axis(counts, ranked, axis=1)
    signal = sorted_counts > noise_std * np.sqrt(2 * np.log(labels))
    # Labels that stand out from the noise come first, then by rank, then by count.
    rank = np.broadcast_to(np.arange(labels), (cells, labels))
    order = np.lexsort((-sorted_counts.ravel(), rank.ravel(), ~signal.ravel()))
    return list(dict.fromkeys(ranked.ravel()[order].tolist()))


def records_of_labels(
    counts: np.ndarray, sizes: Sequence[int], one_way: np.ndarray, *, noise_std: float
) -> np.ndarray:
    """Return the soft record P(A_i = j | label) of every label.

    Each block is the noisy counts of a label over an attribute's cells, shrunk towards the table
    model's P(A_i) in proportion to the noise: the prior counts for as many people as the noise of
    a whole block, so that a label nobody has gets the table model's own distribution.

    Args:
        counts: (cells, labels).
        sizes: Number of cells of each attribute.
        one_way: (cells,) concatenated one-way probabilities of the table model.
        noise_std: Standard deviation of the noise in each count.

    Returns:
        float32 (labels, cells); every block of a row sums to one.
    """
    blocks = []
    for part, prior in zip(_split(counts, sizes), _split(one_way, sizes), strict=True):
        share = prior[:, None] / prior.sum()
        # Noise as large as the signal must not become a correlation: soft-threshold around the
        # counts expected under independence before mixing in the prior.
        expected = share * part.sum(0)
        excess = part - expected
        kept = np.sign(excess) * np.maximum(np.abs(excess) - noise_std, 0)
        people = np.maximum(expected + kept, 0) + share * (noise_std * np.sqrt(len(part)) + 1e-9)
        blocks.append(people / people.sum(0))
    return np.concatenate(blocks).T.astype(np.float32)


def draw_records(
    soft: np.ndarray,
    labels: np.ndarray,
    candidates: np.ndarray,
    sizes: Sequence[int],
    *,
    rng: np.random.Generator,
    sweeps: int = 10,
) -> np.ndarray:
    """Draw a whole record for each label from the table model's records.

    Records are drawn from the distribution nearest to the table model's among all distributions
    over the candidates with one-way marginals P(A_i | label). It is found by raking (Deming and
    Stephan 1940), which preserves the table model's dependence between attributes.

    Args:
        soft: (labels, cells) from `records_of_labels`.
        labels: (N,) the label of each record to draw.
        candidates: (M, d) cell codes drawn from the table model.
        sizes: Number of cells of each attribute.
        rng: Public randomness.
        sweeps: Passes over the attributes.

    Returns:
        (N, d) cell codes.
    """
    drawn = np.empty((len(labels), len(sizes)), candidates.dtype)
    for label in np.unique(labels):
        weight = np.full(len(candidates), 1 / len(candidates))
        for _ in range(sweeps):
            for i, target in enumerate(_split(soft[label], sizes)):
                now = np.bincount(candidates[:, i], weights=weight, minlength=sizes[i])
                factor = np.where(now > 0, target / np.where(now > 0, now, 1), 0)
                weight = weight * factor[candidates[:, i]]
                weight /= weight.sum()
        rows = np.flatnonzero(labels == label)
        drawn[rows] = candidates[rng.choice(len(candidates), len(rows), p=weight)]
    return drawn


def _split(cells: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    return np.split(cells, np.cumsum(sizes)[:-1])
