"""A pool of labelled public images, with one folder per label or drawn procedurally.

The pool counts as public because its owner says so; this cannot be checked here. It must have been
chosen without looking at the private data. Its files are untrusted all the same: limits, links
and formats are treated as for private images (`data.images`). The labels are used by `query`.
In PrivImage (Li et al. 2024) the pool is ImageNet.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile

import numpy as np
from PIL import Image, ImageOps

from dagster_project.data.images import UnusableImage, read_inside
from dagster_project.data.schema import ImageSpec

MAX_IMAGES = 1_000_000
STATEMENT = (
    "The pool of public images was declared public by the person who requested this release: it "
    "was chosen without looking at the private data, and the people in it are not protected."
)
# Raster formats that Pillow decodes by itself. PostScript is left out: it starts another program.
_FORMATS = (
    "PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "TGA", "PCX", "ICO", "JPEG2000", "SGI",
)  # fmt: skip
_ENDING = re.compile(
    r".+\.(png|jpe?g|jpe|jfif|gif|bmp|dib|webp|tiff?|p[pgbn]m|tga|pcx|ico|jp2|j2k|sgi|bw|rgb)"
)


@dataclass(frozen=True)
class PublicPool:
    """Labelled public images of the schema's size.

    Attributes:
        name: The user's name for the pool.
        images: uint8 (N, C, H, W).
        labels: int32 (N,), positions in `names`.
        names: The labels.
        skipped: Number of files left out, by reason.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    skipped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or not len(self.images):
            raise ValueError("The images of the pool must be a uint8 array with four axes.")
        if self.labels.shape != (len(self.images),) or len(set(self.names)) != len(self.names):
            raise ValueError("The pool needs one label per image, and distinct label names.")
        if self.labels.min() < 0 or self.labels.max() >= len(self.names):
            raise ValueError("A label of the pool has no name.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each label, (labels,)."""
        return np.bincount(self.labels, minlength=len(self.names))

    @property
    def sha256(self) -> str:
        """The hash of the images and labels as used, independent of their files."""
        digest = hashlib.sha256(repr((self.images.shape, self.names)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i4").data)
        return digest.hexdigest()

    def with_negatives(self) -> PublicPool:
        """Return the pool with its negatives added under labels of their own.

        The private images then select the background: clip art is dark on white, whereas X-rays
        and catalogues are often light on black.
        """
        return PublicPool(
            self.name,
            np.concatenate([self.images, 255 - self.images]),
            np.concatenate([self.labels, self.labels + len(self.names)]).astype(np.int32),
            (*self.names, *(f"{name} (negative)" for name in self.names)),
            self.skipped,
        )

    def save(self, file: Path) -> None:
        """Write an npz without pickle."""
        with file.open("wb") as stream:
            np.savez_compressed(
                stream,
                name=np.array(self.name),
                images=self.images,
                labels=self.labels.astype(np.int32),
                names=np.array(self.names),
                skipped=np.array([f"{n} {reason}" for reason, n in self.skipped.items()], str),
            )

    @classmethod
    def load(cls, file: Path) -> PublicPool:
        """Load a pool written by `save`.

        Raises:
            ValueError: If the file is not a pool.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                skipped = (str(line).partition(" ") for line in arrays["skipped"])
                return cls(
                    name=str(arrays["name"]),
                    images=arrays["images"],
                    labels=arrays["labels"],
                    names=tuple(map(str, arrays["names"])),
                    skipped={reason: int(number) for number, _, reason in skipped},
                )
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise ValueError(f"{file.name} is not a pool of public images.") from error


def read_folder(
    folder: Path,
    spec: ImageSpec,
    *,
    name: str | None = None,
    depth: int | None = None,
    smallest: int = 8,
    progress: Callable[[float, str], None],
) -> PublicPool:
    """Read a folder of images, labelled by the joined names of their subfolders.

    Images are resized to the schema's size like private ones: centre-cropped to the aspect ratio
    and resized (Lanczos), with transparent parts white. Links are not followed. Files that are
    damaged or not images are counted and left out.

    Args:
        folder: The pool.
        spec: Target channels, height and width.
        name: Name of the pool; by default the folder's name.
        depth: Maximum number of folder names joined; None for all.
        smallest: A label with fewer images is merged into its parent, or left out if it has none:
            a classifier learns nothing from a handful of images.
        progress: Callback that receives the fraction done and a text.

    Raises:
        ValueError: If there is no such folder, it has too many files, or fewer than two labels
            remain.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError(f"There is no folder of public images {folder.name!r}.")
    paths = sorted(_files(folder))
    if len(paths) > MAX_IMAGES:
        raise ValueError(f"The pool has more than {MAX_IMAGES:,} files.")
    images, labels, skipped = [], [], Counter[str]()
    for number, path in enumerate(paths):
        try:
            images.append(decode_public(read_inside(folder, path), spec))
            labels.append("/".join(PurePosixPath(path).parts[:-1][:depth]))
        except UnusableImage as reason:
            skipped[str(reason)] += 1
        if number % 100 == 0:
            progress(number / len(paths), "reading public images")
    final = _merge_small(labels, smallest)
    kept = [i for i, label in enumerate(final) if label]
    skipped |= Counter({"too few of their label": len(final) - len(kept)})
    names = sorted({final[i] for i in kept})
    if len(names) < 2:
        raise ValueError(
            f"{folder.name!r} contains fewer than two labels: a label is a folder of at least "
            f"{smallest} images."
        )
    position = {label: i for i, label in enumerate(names)}
    progress(1.0, "public images read")
    return PublicPool(
        name=name or folder.name,
        images=np.stack([images[i] for i in kept]),
        labels=np.array([position[final[i]] for i in kept], dtype=np.int32),
        names=tuple(names),
        skipped={reason: n for reason, n in sorted(skipped.items()) if n},
    )


def list_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return the name, size and modification time of every image, to detect a changed pool."""
    found = []
    for name in sorted(_files(folder)):
        status = (folder / name).lstat()
        found.append((name, status.st_size, status.st_mtime_ns))
    return found


def decode_public(content: bytes, spec: ImageSpec) -> np.ndarray:
    """Decode one public image of any raster format to uint8 (channels, height, width).

    Raises:
        UnusableImage: If it is too large, damaged, or of an unknown format.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # checked below
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.DecompressionBombError:
        raise UnusableImage("too many pixels") from None
    except Exception:  # a decoder fed with hostile bytes may raise anything
        raise UnusableImage("not a readable image") from None
    with image:
        width, height = image.size
        if width * height > spec.max_pixels:
            raise UnusableImage("too many pixels")
        try:
            array = np.asarray(_fit(image, spec))
        except Exception:
            raise UnusableImage("truncated or damaged") from None
    return array[None] if spec.channels == 1 else array.transpose(2, 0, 1)


def _fit(image: Image.Image, spec: ImageSpec) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    whole = image.convert("RGBA")
    ground = Image.new("RGBA", whole.size, "white")
    flat = Image.alpha_composite(ground, whole).convert("L" if spec.channels == 1 else "RGB")
    return ImageOps.fit(flat, (spec.width, spec.height), Image.Resampling.LANCZOS)


def _files(folder: Path) -> Iterator[str]:
    """Yield the relative names of the images in labelled folders, without following links."""
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = [f for f in folders if not f.startswith(".")]
        if Path(place) == folder:
            continue  # an image outside any folder has no label
        for file in files:
            path = Path(place, file)
            if _ENDING.fullmatch(file.lower()) and not path.is_symlink():
                yield path.relative_to(folder).as_posix()


def _merge_small(labels: list[str], smallest: int) -> list[str]:
    """Replace labels with fewer than `smallest` images by the parent folder, deepest first.

    A label without a parent becomes empty.
    """
    labels = list(labels)
    for depth in range(max((label.count("/") for label in labels), default=0), -1, -1):
        number = Counter(labels)
        labels = [
            label.rpartition("/")[0]
            if label.count("/") == depth and number[label] < smallest
            else label
            for label in labels
        ]
    return labels
