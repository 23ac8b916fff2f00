"""Pictures decoded by a release's workers, into an array on disk. Private.

A worker reads its part of the data's files where they lie, and writes the pictures to a file of its
own in the private zone; only row numbers and reasons travel. The parts are joined in the order of
the file, so the array is the same to the last bit however many workers there are.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dagster_project.compute.workers import WorkerLost, Workers
from dagster_project.data.decoding import Pictures
from dagster_project.data.reading import ReadingError, cut_short

# Between workers without work at the end and rows that are read only to be skipped: a part may
# begin anywhere in a CSV file or in a row group of Parquet.
_PARTS = 4


_TOKEN = "token"


@dataclass(frozen=True)
class DecodedPart:
    """Decodes one part of the pictures into a file of that part.

    Attributes:
        folder: A private folder that all workers can write.
        token: Content of a file in that folder.
        found: The places that the release's process reads, each with its time of change. On a
            machine without the folder of images, or with an empty one, everybody's picture would
            count as missing.
    """

    folder: Path
    token: str
    found: tuple[tuple[Path, int], ...]

    def __call__(self, shard: tuple[int, Pictures]) -> tuple[np.ndarray, Counter[str]]:
        """Return what `Pictures.decode` does; the pictures' bytes are in `file`.

        Raises:
            ReadingError: The data's files are damaged, or the private zone cannot be written.
            WorkerLost: This worker does not find what the release's process does.
        """
        number, pictures = shard
        if not self._finds_the_same():
            raise WorkerLost(
                "a worker does not find the data or the private zone, or may not use them: mount "
                "their folders, and that of image.link_cache, at the same path on all machines, "
                "for the same user"
            )
        with _private_zone():
            file = self.file(number).open("wb")

        def put(_: int, image: np.ndarray) -> None:
            with _private_zone():
                file.write(image.tobytes())

        try:
            decoded = pictures.decode(put)
        except (OSError, pa.ArrowException):
            raise cut_short() from None  # it may quote a record
        finally:
            with _private_zone():
                file.close()
        return decoded

    def _finds_the_same(self) -> bool:
        try:
            return (self.folder / _TOKEN).read_text() == self.token and all(
                path.stat().st_mtime_ns == changed and os.access(path, _access(path))
                for path, changed in self.found
            )
        except OSError:
            return False

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
            ReadingError: The data's files are damaged, or the private zone cannot be written.
            WorkerLost: A worker ended before its work was done.
        """
        with _private_zone():
            self.folder.mkdir(parents=True, exist_ok=True)
            # A folder of its own, so that nothing of an earlier try, whose workers may still be
            # ending, can be mistaken for a part of this one.
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            (folder / _TOKEN).write_text(token := secrets.token_hex())
            images = np.lib.format.open_memmap(
                folder / "pictures.npy", mode="w+", dtype=np.uint8, shape=pictures.shape
            )
        if self.workers.here:
            rows, reasons = pictures.decode(images.__setitem__, told)
            return images[: len(rows)], rows, reasons
        layout, parts = pictures.layout, pictures.divide(_PARTS * self.workers.count)
        used = filter(None, (pictures.file, layout.images, layout.cache))
        found = tuple((path, path.stat().st_mtime_ns) for path in used if path.exists())
        function = DecodedPart(folder, token, found)
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


def _access(path: Path) -> int:
    return os.R_OK | os.X_OK if path.is_dir() else os.R_OK


@contextmanager
def _private_zone() -> Iterator[None]:
    """Tell a failure to write to the private zone from one to read the data."""
    try:
        yield
    except OSError:
        raise ReadingError("The pictures cannot be written to the private zone.") from None
