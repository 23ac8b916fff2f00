"""From noisy label counts to public images with records. Post-processing: free.

The counts (cells, labels) come from the Gaussian query or, scaled by the table's noisy total,
from a table model with the label as a column. They say which public labels private images with
an attribute value are like, and so both which public images to learn from and which records
go with them: P(record | label). Training on them belongs to `image.pretraining`.
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
    """The public images of the labels with the largest counts, until they are `share` of the
    pool (PrivImage, section 4; a share of 5 to 20 % does best there).

    Every cell in turn proposes its best label, then every cell its second best, and so on; the
    larger count goes first. Of the last label only
    as many images are taken, at random, as are still wanted.

    Args:
        counts: (cells, labels) noisy counts.
        pool_labels: (N,) labels of the pool.
        share: In (0, 1].
        noise_std: Standard deviation of the noise in each count. What noise alone is expected to
            reach among so many labels, √(2 ln labels) of it, is no signal, and is taken only if
            the rest does not suffice.
        rng: Public randomness.

    Returns:
        Positions in the pool, in ascending order.
    """
    if not 0 < share <= 1:
        raise ValueError("the share of selected public pictures must lie in (0, 1]")
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
    """All labels in the order in which the cells ask for them."""
    cells, labels = counts.shape
    ranked = np.argsort(-counts, axis=1, kind="stable")  # (cells, rank)
    sorted_counts = np.take_along_axis(counts, ranked, axis=1)
    signal = sorted_counts > noise_std * np.sqrt(2 * np.log(labels))
    # First what stands out of the noise, then rank by rank, then by strength.
    rank = np.broadcast_to(np.arange(labels), (cells, labels))
    order = np.lexsort((-sorted_counts.ravel(), rank.ravel(), ~signal.ravel()))
    return list(dict.fromkeys(ranked.ravel()[order].tolist()))


def records_of_labels(
    counts: np.ndarray, sizes: Sequence[int], one_way: np.ndarray, *, noise_std: float
) -> np.ndarray:
    """P(A_i = j | label) for every label: soft records.

    Each block is the noisy counts of a label over an attribute's cells, drawn to the table
    model's P(A_i) as strongly as noise can move them: the prior counts for as many people as the
    noise of a whole block, so that a label which nobody has gets the table's own distribution.

    Args:
        counts: (cells, labels).
        sizes: Cells of each attribute.
        one_way: (cells,) probabilities of the table model, joined.
        noise_std: Standard deviation of the noise in each count.

    Returns:
        float32 (labels, cells); every block of a row sums to one.
    """
    blocks = []
    for part, prior in zip(_split(counts, sizes), _split(one_way, sizes), strict=True):
        share = prior[:, None] / prior.sum()
        # Noise at the size of the signal must not become a correlation: soft-threshold around
        # what independence predicts before the prior is mixed in.
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
    """A whole record for each label, from the table model's records.

    Of all distributions over the candidates that have a label's P(A_i | label) as one-way
    marginals, the one nearest to the table model's is drawn from. It is found by raking (Deming
    and Stephan 1940), so that attributes stay tied to each other as the table model ties them.

    Args:
        soft: (labels, cells) from `records_of_labels`.
        labels: (N,) a label for each record that is wanted.
        candidates: (M, d) cell codes drawn from the table model.
        sizes: Cells of each attribute.
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
