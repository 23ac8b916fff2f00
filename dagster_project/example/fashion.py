"""Build the example data: a fashion catalogue of images and records from Fashion-MNIST.

    python -m dagster_project.example.fashion --source DIR --out data

DIR holds the four IDX files (gzipped or not) of Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, MIT
licence), as Debian's package dataset-fashion-mnist installs them. The result is public data:
train.parquet, heldout.parquet (from the benchmark's own test files) and schema.yaml. The records
are measured from the images. This module knows nothing of the form of private data.
"""

from __future__ import annotations

import argparse
import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from dagster_project.data.schema import Schema

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SEED = 20170825  # public: it only selects the benchmark images in the example

# Category and department by the benchmark's label, 0 to 9.
CATEGORIES = (
    ("t-shirt", "tops"),
    ("trousers", "bottoms"),
    ("pullover", "tops"),
    ("dress", "dresses"),
    ("coat", "outerwear"),
    ("sandal", "shoes"),
    ("shirt", "tops"),
    ("sneaker", "shoes"),
    ("bag", "bags"),
    ("ankle boot", "shoes"),
)
LEVELS = ("very low", "low", "medium", "high", "very high")
SHAPES = ("very wide", "wide", "square", "tall", "very tall")

# Public constants: round numbers, chosen by hand on this public benchmark so that the five levels
# have similar frequencies. For private data, such edges must come from public knowledge.
SHADE_EDGES = (0.0, 0.4, 0.55, 0.65, 0.75, 1.0)
SIZE_EDGES = (0.0, 0.3, 0.4, 0.5, 0.6, 1.0)
CUTS = {
    "aspect": (0.6, 1.0, 1.3, 1.6),
    "contrast": (0.16, 0.19, 0.21, 0.24),
    "symmetry": (0.6, 0.75, 0.85, 0.92),
    "detail": (0.08, 0.095, 0.11, 0.125),
}
GARMENT_ABOVE = 0.05  # brightness of a pixel that belongs to the garment; the background is black


def _levels(words: tuple[str, ...]) -> dict[str, object]:
    return {"kind": "categorical", "categories": list(words)}


SCHEMA = {
    "name": "fashion-catalogue",
    "public": True,
    "person_id": "item_id",
    "n_public": 20_000,
    "image": {"column": "image", "channels": 1, "height": 28, "width": 28},
    "attributes": {
        "category": _levels(tuple(category for category, _ in CATEGORIES)),
        "department": _levels(tuple(dict.fromkeys(group for _, group in CATEGORIES))),
        "shade": {"kind": "numeric", "edges": list(SHADE_EDGES), "out_of_domain": "clamp"},
        "size": {"kind": "numeric", "edges": list(SIZE_EDGES), "out_of_domain": "clamp"},
        "aspect": _levels(SHAPES),
        "contrast": _levels(LEVELS),
        "symmetry": _levels(LEVELS),
        "detail": _levels(LEVELS),
    },
}

_NOTE = """\
# The public contract of the example. Nothing here is computed from private data: Fashion-MNIST is
# a public benchmark. Written by `python -m dagster_project.example.fashion`.
#   shade    mean brightness of the garment: 0 black, 1 white
#   size     share of the frame that the garment fills
#   aspect   height over width of the garment
#   contrast spread of brightness within the garment
#   symmetry likeness of the left and the right half
#   detail   amount of outline and pattern
"""


def measure(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measured attributes, float64 (N,) each, of grey images, uint8 (N, H, W).

    shade: mean brightness of the garment's pixels, in [0, 1].
    size: fraction of all pixels that belong to the garment.
    aspect: height over width of the garment's bounding box.
    contrast: standard deviation of the brightness of the garment's pixels.
    symmetry: 1 minus the fraction of brightness that mirroring the frame moves.
    detail: mean gradient of the brightness per pixel.
    """
    x = images / 255.0
    garment = x > GARMENT_ABOVE
    shade, contrast = _moments(x, garment)
    height = _extent(np.any(garment, axis=2))
    width = _extent(np.any(garment, axis=1))
    moved = np.abs(x - x[:, :, ::-1]).sum(axis=(1, 2))
    slope = np.hypot(
        x[:, 1:-1, 2:] - x[:, 1:-1, :-2],
        x[:, 2:, 1:-1] - x[:, :-2, 1:-1],
    )
    return {
        "shade": shade,
        "size": garment.mean(axis=(1, 2)),
        "aspect": height / np.maximum(width, 1),
        "contrast": contrast,
        "symmetry": 1 - moved / np.maximum(2 * x.sum(axis=(1, 2)), 1e-9),
        "detail": slope.mean(axis=(1, 2)) / 2,
    }


def records(images: np.ndarray, labels: np.ndarray) -> dict[str, list[object]]:
    """Return the record's columns, in schema order, of images (N, H, W) and labels (N,)."""
    measured = measure(images)
    columns: dict[str, list[object]] = {
        "category": [CATEGORIES[label][0] for label in labels],
        "department": [CATEGORIES[label][1] for label in labels],
        "shade": [round(float(value), 4) for value in measured["shade"]],
        "size": [round(float(value), 4) for value in measured["size"]],
    }
    for name, cuts in CUTS.items():
        words = SHAPES if name == "aspect" else LEVELS
        columns[name] = [words[level] for level in np.digitize(measured[name], cuts)]
    return columns


def build(source: Path, out: Path, *, train: int = 20_000, heldout: int = 4_000) -> None:
    """Write train.parquet, heldout.parquet and schema.yaml into `out`; the bytes are reproducible.

    Raises:
        ValueError: The source lacks the IDX files, or they hold fewer images than wanted.
    """
    rng = np.random.default_rng(SEED)
    out.mkdir(parents=True, exist_ok=True)
    for stem, prefix, wanted in (("train", "train", train), ("t10k", "heldout", heldout)):
        images = read_idx(source, f"{stem}-images-idx3-ubyte", axes=3)
        labels = read_idx(source, f"{stem}-labels-idx1-ubyte", axes=1)
        if not wanted <= len(images) == len(labels):
            raise ValueError(f"The {stem} files hold fewer than {wanted} labelled images.")
        chosen = np.sort(rng.permutation(len(images))[:wanted])
        table = pa.table(
            {
                "item_id": [f"{stem}-{number:05d}" for number in chosen],
                "image": pa.array([_png(image) for image in images[chosen]], pa.binary()),
                **records(images[chosen], labels[chosen]),
            }
        )
        pq.write_table(table, out / f"{prefix}.parquet", compression="zstd", row_group_size=5_000)
    Schema.from_dict(SCHEMA)
    body = yaml.safe_dump(SCHEMA, sort_keys=False, default_flow_style=None, width=100)
    (out / "schema.yaml").write_text(_NOTE + body, encoding="utf-8")


def read_idx(source: Path, name: str, *, axes: int) -> np.ndarray:
    """Read one IDX file of bytes (LeCun's format), plain or gzipped, as uint8 with `axes` axes.

    Raises:
        ValueError: The file is missing, or is not an IDX file.
    """
    plain, zipped = source / name, source / f"{name}.gz"
    try:
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(zipped.read_bytes())
    except (OSError, EOFError) as error:
        raise ValueError(f"{name}(.gz) cannot be read in the source folder.") from error
    shape = np.frombuffer(content[4 : 4 + 4 * axes], ">u4").astype(int)
    body = content[4 + 4 * axes :]
    if content[:4] != bytes((0, 0, 8, axes)) or len(body) != np.prod(shape):
        raise ValueError(f"{name} is not an IDX file of bytes with {axes} axes.")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _moments(x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (N,) of x (N, H, W) inside the mask; 0 if it is empty."""
    count = np.maximum(mask.sum(axis=(1, 2)), 1)
    mean = (x * mask).sum(axis=(1, 2)) / count
    variance = ((x - mean[:, None, None]) ** 2 * mask).sum(axis=(1, 2)) / count
    return mean, np.sqrt(variance)


def _extent(line: np.ndarray) -> np.ndarray:
    """Return the inclusive distance from first to last True of each row (N, L); 0 if none."""
    length = line.shape[1] - line.argmax(axis=1) - line[:, ::-1].argmax(axis=1)
    return np.where(line.any(axis=1), length, 0)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    """Run the command line of `python -m dagster_project.example.fashion`."""
    parser = argparse.ArgumentParser(description="Builds the fashion catalogue.")
    parser.add_argument("--source", type=Path, default=DEBIAN_FOLDER, help="folder of IDX files")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write")
    arguments = parser.parse_args()
    try:
        build(arguments.source, arguments.out)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"Wrote train.parquet, heldout.parquet and schema.yaml into {arguments.out}/")


if __name__ == "__main__":
    main()
