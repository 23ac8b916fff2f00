"""Microbatches in which nobody's gradient depends on who else was sampled.

All microbatches of a run have one size, in which the place of an example makes no difference to its
gradient, and a person's diffusion draws follow the person's own content (`dp_sgd`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch


def fixed_microbatches(chosen: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Split one Poisson batch into microbatches that all have `size` rows.

    The last one is padded with repetitions that do not count: the shape of a product may change its
    last bits, and nobody's gradient may depend on how many others were sampled.

    Yields:
        Indices (size,), and `present` of `private_step`, bool (size,).
    """
    for start in range(0, len(chosen), size):
        some = chosen[start : start + size]
        yield np.resize(some, size), torch.arange(size) < len(some)


def own_draws(key: bytes, *content: np.ndarray) -> torch.Generator:
    """Return the source of one person's diffusion draws in a step.

    It is a function of the step's secret key and of the person's own content. So, given the key,
    nobody's gradient depends on who else was sampled, however few states torch's generator has;
    drawn in the order of the batch, one more person would change the draws of all that follow.

    Args:
        key: Fresh random bytes of the operating system for each step, at most 64.
        content: The person's arrays.
    """
    digest = hashlib.blake2b(key=key, digest_size=8)
    for part in content:
        digest.update(np.ascontiguousarray(part).tobytes())
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "big") >> 1)


# Gradients in a microbatch on a CPU: twice as many fall out of its cache, and take longer to clip.
MOST_AT_ONCE = 64
# A matrix product computes rows in groups, and those left over by another kernel: with an odd
# number of rows, the last row of a product differs in its last bits from the same row elsewhere.
GROUP = 16


def microbatch_size(
    noise_draws: int,
    *,
    passes: int,
    batch: float,
    memory_bytes: float,
    parameters: int,
    on_gpu: bool,
) -> int:
    """Return the number of examples in a microbatch, whose gradients fit in memory at once.

    Their noise draws are a multiple of 16 rows, or it is a single example. Otherwise an example's
    gradient would depend on its place in the microbatch, and hence on who else was sampled.

    A GPU takes a whole Poisson batch, with room for four standard deviations of its size, because
    the last microbatch is padded.

    At most about three copies of each example's gradient (float32) exist at the same time.

    Args:
        noise_draws: Noise levels drawn for each example.
        passes: Network passes at once that are fastest on a CPU.
        batch: Expected size of a Poisson batch.
        memory_bytes: Memory for gradients.
        parameters: Number of the network's parameters.
        on_gpu: Whether only memory limits the number.
    """
    by_memory = int(memory_bytes / (3 * 4 * parameters))
    whole = math.ceil(batch + 4 * math.sqrt(batch))
    by_speed = whole if on_gpu else min(MOST_AT_ONCE, math.ceil(passes / noise_draws))
    group = GROUP // math.gcd(GROUP, noise_draws)
    return max(1, min(math.ceil(by_speed / group), by_memory // group) * group)
