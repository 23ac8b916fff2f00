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
    _require(parts, max_norm)
    joined = _joined(parts)
    factor, finite = _factors(joined, max_norm, None)
    return [
        _scaled(part.flatten(1), factor, finite).trunc_().view(part.shape)
        if part[:1].numel()
        else part.clone()
        for part in parts
    ]


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

    _require(parts, max_norm)
    joined = _joined(parts)
    factor, finite = _factors(joined, max_norm, present)
    # Below 2^31 the sum of at most 127 rows is exact in int32, which is faster. The conversion
    # truncates toward zero.
    kind = torch.int32 if len(factor) < 2 ** (31 - BITS) else torch.int64
    entries = joined[0].numel() if joined[0].is_cuda else _PIECE
    columns = max(1, entries // max(1, len(factor)))
    return torch.cat(
        [
            _scaled(piece, factor, finite).int().sum(dim=0, dtype=kind).long()
            for matrix in joined
            for piece in matrix.split(columns, dim=1)
        ]
    )


_PIECE = 2**17  # entries that are scaled at a time on a CPU, so that they stay in its cache
_SMALL = 2**15  # entries below which a part is worth joining with its neighbours


def to_numbers(units: np.ndarray, *, max_norm: float = 1.0) -> np.ndarray:
    """Convert integers of the grid to the numbers that they represent, float64."""
    return units * (max_norm / UNITS)


def _require(parts: Sequence[torch.Tensor], max_norm: float) -> None:
    import torch  # here, so that planning, which only needs the constants, does without

    if not 2.0**-64 <= max_norm <= 2.0**64:
        raise ValueError(f"max_norm must lie in [2^-64, 2^64], not {max_norm!r}")
    if any(part.dtype not in (torch.float32, torch.float64) for part in parts):
        raise ValueError("parts must be float32 or float64, which hold the grid's integers")


def _joined(parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the parts in order as matrices (N, n), neighbours joined so that few are small.

    On a GPU, where each operation has a price, all are joined.
    """
    import torch

    groups: list[list[torch.Tensor]] = []
    for part in parts:
        matrix = part.reshape(len(part), math.prod(part.shape[1:]))
        small = matrix.is_cuda or matrix.numel() < _SMALL
        if groups and small and (matrix.is_cuda or groups[-1][-1].numel() < _SMALL):
            groups[-1].append(matrix)
        else:
            groups.append([matrix])
    return [group[0] if len(group) == 1 else torch.cat(group, dim=1) for group in groups]


def _factors(
    matrices: Sequence[torch.Tensor], max_norm: float, present: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the factor of each row, float64 (N,), and which rows are finite; None if all are.

    A row times its factor has norm `max_norm` at most, in units of the grid. The factor is zero for
    rows that are not finite or not present.
    """
    norms = _norms(matrices)
    finite = norms.isfinite()
    factor = UNITS * ((1 - _MARGIN) / norms).clamp(max=1 / max_norm)
    factor = factor.where(finite if present is None else finite & present, 0.0)
    return factor, None if finite.all() else finite


def _scaled(
    matrix: torch.Tensor, factor: torch.Tensor, finite: torch.Tensor | None
) -> torch.Tensor:
    """Return a new matrix of rows times their factors; rows that are not finite become zero."""
    if finite is not None:  # 0 times infinity would not be zero
        matrix = matrix.masked_fill(~finite[:, None], 0.0)
    return matrix * factor[:, None].to(matrix.dtype)


def _norms(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return each row's norm over all matrices, float64 (N,); not finite where an entry is not.

    In any order, a sum of m squares in float32 has a relative error of at most m u / (1 - m u) with
    u = 2^-24 (Higham, "Accuracy and stability of numerical algorithms", 2002, section 4.2), and its
    root of about half of that. So norms of 128 entries are right to 4 10^-6, and their squares are
    added in float64. Where squares could vanish or overflow, the whole row is computed in float64.
    Scaling a row in float32 rounds twice more, by 2^-24 each: together less than `_MARGIN`.
    """
    import torch

    low, high = _PLAIN
    norms = _norms_in_blocks(matrices)
    odd = ~((norms > low) & (norms < high))
    if odd.any():
        exact = _norms_in_blocks([matrix.double() for matrix in matrices])
        norms = torch.where(odd, exact, norms)
    return norms


def _norms_in_blocks(matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    # Added one after the other: in a sum over a stack, torch's order of terms would depend on the
    # place of the row.
    total = torch.zeros(len(matrices[0]), dtype=torch.float64, device=matrices[0].device)
    for matrix in matrices:
        count = matrix.shape[1] // _BLOCK
        blocks = matrix[:, : count * _BLOCK].unflatten(1, (count, _BLOCK))
        rest = matrix[:, count * _BLOCK :]
        total += torch.linalg.vector_norm(blocks, dim=2).double().square().sum(dim=1)
        total += torch.linalg.vector_norm(rest, dim=1).double().square()
    return total.sqrt()
