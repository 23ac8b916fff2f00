"""People's contributions as integers on a public grid, so that sums and their noise are exact.

Noise added in floating point leaves a pattern in the last bits by which the sum can be recognised
(Mironov, "On significance of the least significant bits for differential privacy", 2012), and sums
in floating point depend on their order (Casacuberta et al., "Widespread underestimation of
sensitivity in differentially private libraries", 2022). Here every contribution is an integer
before it is summed, sums of integers are exact in any order, and the noise is an integer
(`noise.SecureGenerator.rounded_gaussian`).

A contribution is a vector of norm at most `max_norm`, in units of `max_norm` / 2^24. Truncation
toward zero does not increase any coordinate's magnitude and hence not the norm: |trunc(x)| <= |x|,
so sum trunc(x_j)^2 <= sum x_j^2. The norm that floating point computed before that is not trusted:
the norm of the integers is computed exactly, and a vector that is too long is shrunk until it is
not. So ||k||_2 <= 2^24 holds for the integers, however the hardware rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

BITS = 24  # a float32 holds every integer up to 2^24
UNITS = 2**BITS  # largest norm, in grid units

# Sums are exact in float64 up to 2^53, so this many people can be summed; int64 allows far more.
MOST_PEOPLE = 2 ** (53 - BITS)


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
    import torch  # here, so that planning, which only needs the constants, does without

    if not 2.0**-64 <= max_norm <= 2.0**64:
        raise ValueError(f"max_norm must lie in [2^-64, 2^64], not {max_norm!r}")
    if any(part.dtype not in (torch.float32, torch.float64) for part in parts):
        raise ValueError("parts must be float32 or float64, which hold the grid's integers")
    norms = _norms(parts)
    finite = norms.isfinite()
    # The clip factor, at most 1, times the scale of the grid.
    factor = torch.where(finite, (max_norm / norms).clamp(max=1.0) * (UNITS / max_norm), 0.0)
    if not finite.all():  # 0 times infinity would not be zero
        parts = [torch.where(_like(finite, part), part, 0.0) for part in parts]
    units = [(part * _like(factor, part)).trunc_() for part in parts]
    # Exact: integers of at most 2^48 in float64, whose sum stays below 2^53 or is far too large.
    while (long := _squares(units) > float(UNITS) ** 2).any():
        shorter = torch.where(long, 1 - 2.0**-20, 1.0)
        units = [part.mul_(_like(shorter, part)).trunc_() for part in units]
    return units


def to_numbers(units: np.ndarray, *, max_norm: float = 1.0) -> np.ndarray:
    """Convert integers of the grid to the numbers that they represent, float64."""
    return units * (max_norm / UNITS)


def _norms(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the approximate norm of each row over all parts, float64 (N,); infinite or NaN where
    an entry is."""
    import torch

    found = torch.stack([torch.linalg.vector_norm(part.flatten(1), dim=1) for part in parts])
    if not found.isfinite().all():  # perhaps only an overflow of the parts' own type
        found = torch.stack([_squares([part]).sqrt() for part in parts])
    return torch.linalg.vector_norm(found.double(), dim=0)


def _squares(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the squared norm of each row over all parts, float64 (N,)."""
    import torch

    return torch.stack([part.double().square().flatten(1).sum(dim=1) for part in parts]).sum(dim=0)


def _like(row: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Shape and cast one number for each row (N,) for multiplication with a part (N, ...)."""
    shaped = row.view(-1, *[1] * (part.dim() - 1))
    return shaped.to(part.dtype) if row.is_floating_point() else shaped
