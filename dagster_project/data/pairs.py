"""The private pairs in the form that every mechanism takes: images, cell codes and values.

One row is one person. Reading pairs from files belongs to `reading`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_FIELDS = ("images", "codes", "values")


@dataclass(frozen=True)
class Pairs:
    """N pairs of an image and a record, one pair for each person.

    Attributes:
        images: uint8 (N, C, H, W).
        codes: int16 (N, d), the cell of each attribute, in schema order.
        values: float32 (N, d), the clamped number of a numeric attribute (NaN if missing), the
            code of a categorical one.
    """

    images: np.ndarray
    codes: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together; the message names no value or count."""
        for name, dtype, dimensions in (
            ("images", np.uint8, 4),
            ("codes", np.int16, 2),
            ("values", np.float32, 2),
        ):
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != dimensions:
                raise ValueError(f"Pairs: {name} must be {np.dtype(dtype)} with {dimensions} axes.")
        if self.codes.shape != self.values.shape or len(self.images) != len(self.codes):
            raise ValueError("Pairs: images, codes and values must have matching shapes.")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: np.ndarray) -> Pairs:
        """Return the pairs at `indices` (int or bool array), in that order, in memory."""
        return Pairs(*(np.asarray(getattr(self, name)[indices]) for name in _FIELDS))

    def save(self, folder: str | Path) -> None:
        """Write images.npy, codes.npy and values.npy into `folder`, without pickle."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _FIELDS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, folder: str | Path, mmap: bool = True) -> Pairs:
        """Read what `save` wrote; `mmap` leaves the arrays on disk, read-only."""
        return cls(
            *(
                np.load(
                    Path(folder) / f"{name}.npy",
                    mmap_mode="r" if mmap else None,
                    allow_pickle=False,
                )
                for name in _FIELDS
            )
        )


@dataclass(frozen=True)
class PairsShard:
    """Some rows of the pairs in a folder; another process reads them where the folder is mounted.

    Attributes:
        folder: Where `Pairs.save` wrote.
        rows: Indices, int (n,).
    """

    folder: Path
    rows: np.ndarray

    def load(self) -> Pairs:
        """Read these rows, and no others, into memory."""
        return Pairs.load(self.folder).take(self.rows)
