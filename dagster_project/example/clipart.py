"""Build a second, small example in colour: clip art of 32 x 32 pixels with six attributes.

    python -m dagster_project.example.clipart DST

The source is Debian's package openclipart-png: about 8,000 drawings in the public domain
(openclipart.org). The result is public data: train.parquet (6,000 pairs), heldout.parquet (the
rest) and schema.yaml. Of drawings that look the same at this size, one is kept. All attributes but
`group`, the drawing's folder, are measured from the pixels. A release of this data that uses the
same drawings as its public pool compares data with itself.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image, ImageOps

from dagster_project.data.schema import Schema
from dagster_project.importers.archive import categorical, png

DEBIAN_FOLDER = Path("/usr/share/openclipart/png")
SIDE = 32
MAX_PIXELS = 4_000_000  # a few posters are larger and take seconds and gigabytes each
SEED = 20050718  # public: it only selects the held-out drawings

# Folders with few drawings become "other".
GROUPS = ("animals", "computer", "food", "people", "recreation", "shapes", "signs_and_symbols")
COLOURS = ("red", "yellow", "green", "blue", "grey")
VIVIDNESS = ("none", "low", "medium", "high")
SHAPES = ("wide", "square", "tall")

# Public constants: round numbers, chosen by hand on this public collection so that the levels have
# similar frequencies.
BRIGHTNESS_EDGES = (0.0, 0.45, 0.55, 0.7, 0.85, 1.0)
COVERAGE_EDGES = (0.0, 0.15, 0.3, 0.45, 0.6, 1.0)
VIVIDNESS_CUTS = (0.02, 0.15, 0.45)
SHAPE_CUTS = (0.85, 1.15)  # height over width
HUE_CUTS = (25.0, 70.0, 170.0, 260.0)  # degrees; purple counts as red
INK_BELOW = 0.95  # of the darkest channel of a pixel that is drawn on; the background is white
GREY_BELOW = 0.08  # vividness of a drawing without a colour

SCHEMA: dict[str, Any] = {
    "name": "clipart",
    "public": True,
    "person_id": "drawing",
    "n_public": 6_000,
    "image": {"column": "image", "channels": 3, "height": SIDE, "width": SIDE},
    "attributes": {
        "group": categorical((*GROUPS, "other")),
        "colour": categorical(COLOURS),
        "vividness": categorical(VIVIDNESS),
        "shape": categorical(SHAPES),
        "brightness": {
            "kind": "numeric",
            "edges": list(BRIGHTNESS_EDGES),
            "out_of_domain": "clamp",
        },
        "coverage": {"kind": "numeric", "edges": list(COVERAGE_EDGES), "out_of_domain": "clamp"},
    },
}

_NOTE = """\
# The public contract of the clip art. Nothing here is computed from private data: the drawings are
# in the public domain. Written by `python -m dagster_project.example.clipart`.
#   group      folder of the drawing
#   colour     most common hue of the drawing
#   vividness  mean colourfulness of the drawing
#   shape      height over width of the drawing
#   brightness mean brightness of the drawing: 0 black, 1 white
#   coverage   fraction of the frame that is drawn on
"""


def measure(images: np.ndarray) -> dict[str, list[object]]:
    """Return the measured attributes of images, uint8 (N, H, W, 3), by name."""
    x = images / 255.0
    low, high = x.min(axis=3), x.max(axis=3)
    ink = low < INK_BELOW
    drawn = np.maximum(ink.sum(axis=(1, 2)), 1)
    chroma = (high - low) * ink
    vividness = chroma.sum(axis=(1, 2)) / drawn
    hue = np.searchsorted(HUE_CUTS, _hue(x, low, high), side="right") % 4
    votes = np.stack([(chroma * (hue == k)).sum(axis=(1, 2)) for k in range(4)], axis=1)
    colour = np.where(vividness < GREY_BELOW, 4, votes.argmax(axis=1))
    height, width = _extent(ink.any(axis=2)), _extent(ink.any(axis=1))
    aspect = np.where(height > 0, height / np.maximum(width, 1), 1.0)
    brightness = (x.mean(axis=3) * ink).sum(axis=(1, 2)) / drawn
    return {
        "colour": [COLOURS[k] for k in colour],
        "vividness": [VIVIDNESS[k] for k in np.digitize(vividness, VIVIDNESS_CUTS)],
        "shape": [SHAPES[k] for k in np.digitize(aspect, SHAPE_CUTS)],
        "brightness": [round(float(value), 4) for value in brightness],
        "coverage": [round(float(value), 4) for value in ink.mean(axis=(1, 2))],
    }


def build(source: Path, out: Path, *, train: int = 6_000) -> tuple[int, int]:
    """Write train.parquet, heldout.parquet and schema.yaml into `out`; the bytes are reproducible.

    Returns:
        Number of training and of held-out pairs.

    Raises:
        ValueError: The source holds too few drawings.
    """
    names = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.png"))
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        read = pool.map(lambda name: _drawing(source / name), names)
        known: dict[bytes, tuple[str, np.ndarray]] = {}
        for name, pixels in zip(names, read, strict=True):
            if pixels is not None:
                known.setdefault(pixels.tobytes(), (name, pixels))
    if len(known) <= train:
        raise ValueError(f"{source} holds {len(known)} different drawings; over {train} are needed")
    kept, images = zip(*known.values(), strict=True)
    order = np.random.default_rng(SEED).permutation(len(kept))
    out.mkdir(parents=True, exist_ok=True)
    for file, part in (("train", order[:train]), ("heldout", order[train:])):
        chosen = np.sort(part)
        table = pa.table(
            {
                "drawing": [kept[i] for i in chosen],
                "image": pa.array([png(images[i]) for i in chosen], pa.binary()),
                "group": _groups(kept[i] for i in chosen),
                **_measured([images[i] for i in chosen]),
            }
        )
        pq.write_table(table, out / f"{file}.parquet", compression="zstd")
    Schema.from_dict(SCHEMA)
    body = yaml.safe_dump(SCHEMA, sort_keys=False, default_flow_style=None, width=100)
    (out / "schema.yaml").write_text(_NOTE + body, encoding="utf-8")
    return train, len(kept) - train


def _measured(images: list[np.ndarray], batch: int = 500) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {}
    for start in range(0, len(images), batch):
        for name, values in measure(np.stack(images[start : start + batch])).items():
            columns.setdefault(name, []).extend(values)
    return columns


def _drawing(path: Path) -> np.ndarray | None:
    """Read the drawing on white, uint8 (32, 32, 3); None if it is empty, too large or damaged."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            drawn = image.convert("RGBA")
        ground = Image.new("RGBA", drawn.size, "white")
        flat = Image.alpha_composite(ground, drawn).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    pixels = np.asarray(ImageOps.pad(flat, (SIDE, SIDE), Image.Resampling.LANCZOS, color="white"))
    return pixels if (pixels < 255 * INK_BELOW).any() else None


def _groups(names: Iterable[str]) -> list[str]:
    folders = (name.split("/")[0] for name in names)
    return [folder if folder in GROUPS else "other" for folder in folders]


def _hue(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the hue in degrees (N, H, W), where 0 is red; 0 where there is none."""
    red, green, blue = np.moveaxis(x, 3, 0)
    chroma = np.where(high > low, high - low, 1.0)
    sixth = np.select(
        [high == low, high == red, high == green],
        [0.0, ((green - blue) / chroma) % 6, (blue - red) / chroma + 2],
        (red - green) / chroma + 4,
    )
    return 60 * sixth


def _extent(line: np.ndarray) -> np.ndarray:
    """Return the inclusive distance from first to last True of each row (N, L); 0 if none."""
    length = line.shape[1] - line.argmax(axis=1) - line[:, ::-1].argmax(axis=1)
    return np.where(line.any(axis=1), length, 0)


def main() -> None:
    """Run the command line of `python -m dagster_project.example.clipart`."""
    parser = argparse.ArgumentParser(description="Builds the clip art example.")
    parser.add_argument("out", type=Path, metavar="DST", help="folder to write")
    parser.add_argument("--source", type=Path, default=DEBIAN_FOLDER, help="folder of drawings")
    arguments = parser.parse_args()
    try:
        train, held_out = build(arguments.source, arguments.out)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"Wrote {train} training and {held_out} held-out pairs into {arguments.out}/")


if __name__ == "__main__":
    main()
