"""Grey values of more than 8 bits as shades, by a window that the public schema states.

A window taken from the picture, such as its own minimum and maximum or the one in a DICOM header,
would make the shades of one picture incomparable with those of the next.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 2**18  # values converted at a time, so that memory stays a small multiple of the picture


def windowed(
    values: np.ndarray,
    window: tuple[float, float],
    *,
    slope: float = 1.0,
    intercept: float = 0.0,
    inverted: bool = False,
) -> np.ndarray:
    """Map `slope * value + intercept` linearly from (low, high) to (0, 255), clipped at both ends.

    Args:
        values: Grey values (height, width), of any real type; not a number counts as low.
        window: The values (low, high) that become black and white.
        slope, intercept: The rescaling of a DICOM file.
        inverted: Whether small values are bright, as in DICOM's MONOCHROME1 and TIFF's WhiteIsZero.

    Returns:
        uint8 (height, width).

    >>> windowed(np.array([[0, 2048, 4095, 9999]]), (0, 4095)).tolist()
    [[0, 128, 255, 255]]
    """
    low, high = window
    shades = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK // max(1, values.shape[1]))
    for first in range(0, len(values), rows):
        block = values[first : first + rows].astype(np.float64)
        block = np.nan_to_num((block * slope + intercept - low) / (high - low))
        block = np.rint(255 * np.clip(block, 0, 1))
        shades[first : first + rows] = 255 - block if inverted else block
    return shades
