"""Pictures decoded by a release's workers, into an array on disk. Private.

A worker reads its part of the data's files where they lie, and writes the pictures to a file of its
own in the private zone; only row numbers and reasons travel. The parts are joined in the order of
the file, so the array is the same to the last bit however many workers there are.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dagster_project.compute.workers import WorkerLost, Workers
from dagster_project.data.decoding import Pictures
from dagster_project.data.reading import cut_short

# Between workers without work at the end and rows that are read only to be skipped: a part may
# begin anywhere in a CSV file or in a row group of Parquet.
_PARTS = 4


@dataclass(frozen=True)
class DecodedPart:
    """Decodes one part of the pictures into a file of that part.

    Attributes:
        folder: A private folder that all workers can write.
        found: What the release's process finds. On a machine without the folder of images,
            everybody's picture would count as missing.
    """

    folder: Path
    found: tuple[Path, ...]

    def __call__(self, shard: tuple[int, Pictures]) -> tuple[np.ndarray, Counter[str]]:
        """Return what `Pictures.decode` does; the pictures' bytes are in `file`.

        Raises:
            ReadingError: The data's files are damaged.
            WorkerLost: This worker does not find what the release's process does.
        """
        number, pictures = shard
        if not all(path.exists() for path in (self.folder, *self.found)):
            raise WorkerLost(
                "a worker does not find the data or the private zone: mount their folders, and "
                "that of image.link_cache, at the same path on all machines"
            )
        try:
            with self.file(number).open("wb") as file:
                return pictures.decode(lambda _, image: file.write(image.tobytes()))
        except (OSError, pa.ArrowException):
            raise cut_short() from None  # it may quote a record

    def file(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"{number}.part"


@dataclass(frozen=True)
class Decoder:
    """Decodes pictures on workers; a `data.decoding.Decode`.

    Attributes:
        folder: A private folder for the arrays, which stay on disk.
        workers: Where it runs.
    """

    folder: Path
    workers: Workers

    def __call__(
        self, pictures: Pictures, told: Callable[[float], None]
    ) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
        """Return the usable pictures, uint8 (m, C, H, W), their rows, and the others' reasons.

        Raises:
            ReadingError: The data's files are damaged.
            WorkerLost: A worker ended before its work was done.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # A folder of its own, so that nothing of an earlier try, whose workers may still be
        # ending, can be mistaken for a part of this one.
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        images = np.lib.format.open_memmap(
            folder / "pictures.npy", mode="w+", dtype=np.uint8, shape=pictures.shape
        )
        if self.workers.here:
            rows, reasons = pictures.decode(images.__setitem__, told)
            return images[: len(rows)], rows, reasons
        layout, parts = pictures.layout, pictures.divide(_PARTS * self.workers.count)
        used = filter(None, (pictures.file, layout.images, layout.cache))
        function = DecodedPart(folder, tuple(path for path in used if path.exists()))
        kept, reasons, place = [np.empty(0, np.int64)], Counter(), 0
        for number, (rows, why) in enumerate(
            self.workers.map_shards(function, list(enumerate(parts)))
        ):
            file, end = function.file(number), place + len(rows)
            if len(rows):
                shape = (len(rows), *pictures.shape[1:])
                images[place:end] = np.memmap(file, np.uint8, mode="r", shape=shape)
            file.unlink()
            kept.append(rows)
            reasons, place = reasons + why, end
            told((number + 1) / len(parts))
        return images[:place], np.concatenate(kept), reasons
