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

import math
from collections.abc import Sequence
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
_BLOCK = 128  # squares that are added in the parts' own type
_PLAIN = (2.0**-32, 2.0**60)  # norms whose squares neither vanish nor overflow in float32


def to_grid(parts: Sequence[torch.Tensor], *, max_norm: float) -> list[torch.Tensor]:
    """Clip vectors to an L2 norm and convert them to integers in units of `max_norm` / 2^24.

    Args:
        parts: Floats (N, ...); row i of all parts together is the vector of person i. A row with
            an entry that is not finite becomes zero.
        max_norm: Largest L2 norm of a row, over all parts.

    Returns:
        The parts as integers held exactly in floats of the same type and shape. Each row has an L2
        norm of at most 2^24, exactly.

    Raises:
        ValueError: `max_norm` is out of range, or a part has another type.
    """
    rows = _joined(parts)
    found = (
        _scaled(rows, max_norm).trunc_().split([math.prod(part.shape[1:]) for part in parts], dim=1)
    )
    return [piece.reshape(part.shape) for piece, part in zip(found, parts, strict=True)]


def clipped_sum(
    parts: Sequence[torch.Tensor], *, max_norm: float, present: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum over rows of the integers of `to_grid`, exactly, int64 (all entries,).

    Args:
        parts: As for `to_grid`.
        max_norm: As for `to_grid`.
        present: bool (N,), the rows that count; None counts all.
    """
    import torch

    rows = _scaled(_joined(parts), max_norm, present)
    # Below 2^31 the sum of at most 127 rows is exact in int32, which is faster. The conversion
    # truncates toward zero.
    kind = torch.int32 if len(rows) < 2 ** (31 - BITS) else torch.int64
    pieces = rows.split(_COLUMNS, dim=1)  # a piece stays in the processor's cache
    return torch.cat([piece.int().sum(dim=0, dtype=kind).long() for piece in pieces])


_COLUMNS = 8192


def to_numbers(units: np.ndarray, *, max_norm: float = 1.0) -> np.ndarray:
    """Convert integers of the grid to the numbers that they represent, float64."""
    return units * (max_norm / UNITS)


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the parts side by side as a new matrix (N, all entries)."""
    import torch  # here, so that planning, which only needs the constants, does without

    if any(part.dtype not in (torch.float32, torch.float64) for part in parts):
        raise ValueError("parts must be float32 or float64, which hold the grid's integers")
    return torch.cat([part.reshape(len(part), math.prod(part.shape[1:])) for part in parts], dim=1)


def _scaled(
    rows: torch.Tensor, max_norm: float, present: torch.Tensor | None = None
) -> torch.Tensor:
    """Clip a matrix in place to rows of norm `max_norm`, in units of the grid, not yet truncated.

    Rows that are not finite or not present become zero.
    """

    if not 2.0**-64 <= max_norm <= 2.0**64:
        raise ValueError(f"max_norm must lie in [2^-64, 2^64], not {max_norm!r}")
    norms = _norms(rows)
    finite = norms.isfinite()
    if not finite.all():  # 0 times infinity would not be zero
        rows = rows.masked_fill_(~finite[:, None], 0.0)
    factor = UNITS * ((1 - _MARGIN) / norms).clamp(max=1 / max_norm)
    factor = factor.where(finite if present is None else finite & present, 0.0)
    return rows.mul_(factor[:, None].to(rows.dtype))


def _norms(rows: torch.Tensor) -> torch.Tensor:
    """Return the norm of each row, float64 (N,); infinite or NaN where an entry is.

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
    if rows.dtype == torch.float32 and odd.any():
        norms = torch.where(odd, _norms_in_blocks(rows.double()), norms)
    return norms


def _norms_in_blocks(rows: torch.Tensor) -> torch.Tensor:
    import torch

    n, size = rows.shape
    count = size // _BLOCK
    whole = count * _BLOCK
    blocks = torch.linalg.vector_norm(rows[:, :whole].view(n, count, _BLOCK), dim=2).double()
    rest = torch.linalg.vector_norm(rows[:, whole:], dim=1).double()
    return (blocks.square().sum(dim=1) + rest.square()).sqrt()
