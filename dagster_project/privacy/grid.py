"""People's contributions as integers on a public grid, so that sums and their noise are exact.

Noise added in floating point leaves a pattern in the last bits by which the sum can be recognised
(Mironov, "On significance of the least significant bits for differential privacy", 2012), and sums
in floating point depend on their order (Casacuberta et al., "Widespread underestimation of
sensitivity in differentially private libraries", 2022). Here every contribution is an integer
before it is summed, sums of integers are exact in any order, and the noise is an integer
(`noise.SecureGenerator.rounded_gaussian`).

A contribution is a vector of norm at most `max_norm`, in units of `max_norm` / 2^24. Truncation
toward zero does not increase any coordinate's magnitude and hence not the norm: |trunc(x)| <= |x|,
so sum trunc(x_j)^2 <= sum x_j^2. The norm that floating point computes before that is too small by
a factor of less than 1 + 2^-17 (`_norms`), and vectors are scaled by the inverse of so much more.
So ||k||_2 <= 2^24 holds for the integers, in whatever order the hardware adds. What becomes of a
row depends on that row alone, to the last bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BITS = 24  # a float32 holds every integer up to 2^24
UNITS = 2**BITS  # largest norm, in grid units

# Sums are exact in float64 up to 2^53, so this many people can be summed; int64 allows far more.
MOST_PEOPLE = 2 ** (53 - BITS)


# Relative excess of a true norm over the computed one, with room to spare (`_norms`).
_MARGIN = 2.0**-17
_BLOCK = 128  # squares that are added in the rows' own type
_PLAIN = (2.0**-32, 2.0**60)  # norms whose squares neither vanish nor overflow in float32


def to_grid(rows: torch.Tensor, *, max_norm: float) -> torch.Tensor:
    """Clip vectors to an L2 norm and convert them to integers in units of `max_norm` / 2^24.

    Args:
        rows: Floats (N, P); row i is the vector of person i. A row with an entry that is not finite
            becomes zero.
        max_norm: Largest L2 norm of a row.

    Returns:
        The integers, held exactly in floats of the same type and shape. Each row has an L2 norm of
        at most 2^24, exactly.

    Raises:
        ValueError: `max_norm` is out of range, or the rows have another type.
    """
    rows, factor = _factors(rows, max_norm, None)
    return (rows * factor).trunc_()


def clipped_sum(
    rows: torch.Tensor, *, max_norm: float, present: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum over rows of the integers of `to_grid`, exactly, int64 (P,).

    Args:
        rows: As for `to_grid`.
        max_norm: As for `to_grid`.
        present: bool (N,), the rows that count; None counts all.
    """
    import torch

    rows, factor = _factors(rows, max_norm, present)
    people, entries = rows.shape
    # Below 2^31 the sum of at most 127 rows is exact in int32, which is faster.
    kind = torch.int32 if people < 2 ** (31 - BITS) else torch.int64
    total = rows.new_zeros(entries, dtype=kind)
    width = max(1, entries if rows.is_cuda else min(entries, _WIDTH))
    height = max(1, people if rows.is_cuda else _AT_ONCE // width)
    for columns, part in zip(total.split(width), rows.split(width, dim=1), strict=True):
        for some, factors in zip(part.split(height), factor.split(height), strict=True):
            # The conversion truncates toward zero.
            columns += (some * factors).int().sum(dim=0, dtype=kind)
    return total.long()


# Entries of a row, and in all, that are scaled and added at a time on a CPU: they stay in its
# cache.
_WIDTH, _AT_ONCE = 2**16, 2**18


def to_numbers(units: np.ndarray, *, max_norm: float = 1.0) -> np.ndarray:
    """Convert integers of the grid to the numbers that they represent, float64."""
    return units * (max_norm / UNITS)


def _factors(
    rows: torch.Tensor, max_norm: float, present: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows, those that are not finite as zeros, and their factors (N, 1) in their type.

    A row times its factor has norm `max_norm` at most, in units of the grid. The factor is zero for
    rows that are not finite or not present.
    """
    import torch  # here, so that planning, which only needs the constants, does without

    if not 2.0**-64 <= max_norm <= 2.0**64:
        raise ValueError(f"max_norm must lie in [2^-64, 2^64], not {max_norm!r}")
    if rows.dtype not in (torch.float32, torch.float64):
        raise ValueError("rows must be float32 or float64, which hold the grid's integers")
    norms = _norms(rows)
    finite = norms.isfinite()
    factor = UNITS * ((1 - _MARGIN) / norms).clamp(max=1 / max_norm)
    factor = factor.where(finite if present is None else finite & present, 0.0)
    if not finite.all():  # 0 times infinity would not be zero
        rows = rows.masked_fill(~finite[:, None], 0.0)
    return rows, factor[:, None].to(rows.dtype)


def _norms(rows: torch.Tensor) -> torch.Tensor:
    """Return each row's norm, float64 (N,); not finite where an entry is not.

    In any order, a sum of m squares in float32 has a relative error of at most m u / (1 - m u) with
    u = 2^-24 (Higham, "Accuracy and stability of numerical algorithms", 2002, section 4.2), and its
    root of about half of that. So norms of 128 entries are right to 4 10^-6, and their squares are
    added in float64. Where squares could vanish or overflow, the whole row is computed in float64.
    Scaling a row in float32 rounds twice more, by 2^-24 each: together less than `_MARGIN`.
    """
    import torch

    low, high = _PLAIN
    norms = _norms_in_blocks(rows)
    odd = ~((norms > low) & (norms < high))
    if odd.any():
        norms = torch.where(odd, _norms_in_blocks(rows.double()), norms)
    return norms


def _norms_in_blocks(rows: torch.Tensor) -> torch.Tensor:
    import torch

    count = rows.shape[1] // _BLOCK
    blocks = rows[:, : count * _BLOCK].unflatten(1, (count, _BLOCK))
    rest = rows[:, count * _BLOCK :]
    squares = torch.linalg.vector_norm(blocks, dim=2).double().square().sum(dim=1)
    squares += torch.linalg.vector_norm(rest, dim=1).double().square()
    return squares.sqrt()
