"""Audit for exact or near copies of private images in a release.

It is a measurement on private images, so what it says about a release is private. A differentially
private generator has no reason to come nearer to the images it was trained on than to others.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from dagster_project.audits import toys
from dagster_project.audits.finding import Finding

# Root mean square difference, of 255 grey levels, below which two images look the same.
NEAR = 4.0
_CHUNK = 500


@dataclass(frozen=True)
class Copies:
    """Exact and near copies among `released` images, and the smallest distance."""

    released: int
    exact: int
    near: int
    nearest: float


def released_images(bundle: Path) -> np.ndarray:
    """Return all images of a bundle, uint8 (N, C, H, W)."""
    images = []
    for shard in sorted((bundle / "data").glob("*.parquet")):
        table = pq.read_table(shard)
        name = next(n for n in table.column_names if "bytes" in str(table.schema.field(n).type))
        for item in table[name].to_pylist():
            array = np.asarray(Image.open(io.BytesIO(item["bytes"])))
            images.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
    return np.stack(images)


def find_copies(released: np.ndarray, private: np.ndarray) -> Copies:
    """Compare every released image with every private one.

    Args:
        released: (N, C, H, W) uint8.
        private: (M, C, H, W) uint8.
    """
    known = {image.tobytes() for image in private}
    exact = sum(image.tobytes() in known for image in released)
    pixels = np.asarray(private, dtype=np.float32).reshape(len(private), -1)
    squares, distances = (pixels**2).sum(axis=1), []
    for start in range(0, len(released), _CHUNK):
        part = released[start : start + _CHUNK].astype(np.float32).reshape(-1, pixels.shape[1])
        apart = (part**2).sum(axis=1)[:, None] + squares - 2 * part @ pixels.T
        distances.append(np.maximum(apart.min(axis=1), 0) / pixels.shape[1])
    root = np.sqrt(np.concatenate(distances))
    return Copies(len(released), exact, int((root < NEAR).sum()), float(root.min()))


def copies_finding(name: str, found: Copies, private: int) -> Finding:
    """Return the finding of one release."""
    return Finding(
        name=name,
        measured=(
            f"{found.exact} exact copies, {found.near} near ones (below {NEAR:g} of 255); "
            f"the nearest is {found.nearest:.1f} away"
        ),
        expected="0 copies",
        holds=not (found.exact or found.near),
        size=f"{found.released} released against {private} private images",
    )


def audit_bundle(bundle: Path, private_images: Path) -> Finding:
    """Compare a release with the images it was trained on.

    Args:
        bundle: Folder of the bundle.
        private_images: `images.npy` of the private pairs.
    """
    private = np.load(private_images, mmap_mode="r", allow_pickle=False)
    return copies_finding("copies in the release", find_copies(released_images(bundle), private),
                          len(private))  # fmt: skip


def audit_search(*, images: int) -> Finding:
    """Check on toy images that the search finds planted copies, and finds nothing without them."""
    rng = np.random.default_rng(0)
    drawn = np.stack(
        [toys.draw(int(rng.integers(3)), int(rng.integers(2)), rng) for _ in range(2 * images)]
    )[:, None]
    private, released = drawn[:images], drawn[images:].copy()
    clean = find_copies(released, private)
    released[0] = private[5]
    released[1] = np.clip(private[6].astype(int) + rng.integers(-2, 3, private[6].shape), 0, 255)
    found = find_copies(released, private)
    return Finding(
        name="the search for copies",
        measured=(
            f"{clean.exact + clean.near} found before, {found.exact} exact and {found.near} near "
            "after 1 copy and 1 retouched copy were planted"
        ),
        expected="0 before, 1 exact and 2 near after",
        holds=(clean.exact, clean.near, found.exact, found.near) == (0, 0, 1, 2),
        size=f"{images} toy images on each side",
    )
