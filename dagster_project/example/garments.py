"""A pool of public images that resembles the fashion catalogue: other garments, of other kinds.

    python -m dagster_project.example.garments garments

The images are those of Fashion-MNIST that the catalogue leaves out, of one kind for each
department, in folders `kind/shade` as `public_images.source` reads them. The pool is like what a
hospital finds in a public archive: images from the same sort of camera, but not of every kind that
its own people have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from dagster_project.example.fashion import (
    CATEGORIES,
    DEBIAN_FOLDER,
    LEVELS,
    SEED,
    SHADE_EDGES,
    measure,
    read_idx,
)
from dagster_project.importers.archive import png

KINDS = ("pullover", "dress", "sandal", "bag", "ankle boot")


def build(source: Path, out: Path, *, count: int = 5_000, catalogue: int = 20_000) -> int:
    """Write `count` PNG files, evenly by kind, into `out`/kind/shade; the files are reproducible.

    Args:
        source: Folder of the IDX files.
        out: Folder of the pool.
        count: Number of images wanted.
        catalogue: Number of training images in the catalogue; the pool has none of them.

    Returns:
        Number of images written.

    Raises:
        ValueError: The source lacks the files, or too few images of a kind are left.
    """
    images = read_idx(source, "train-images-idx3-ubyte", axes=3)
    labels = read_idx(source, "train-labels-idx1-ubyte", axes=1)
    taken = np.random.default_rng(SEED).permutation(len(images))[:catalogue]  # as `fashion.build`
    left = np.setdiff1d(np.arange(len(images)), taken)
    shade = np.digitize(measure(images)["shade"], SHADE_EDGES[1:-1])
    each = count // len(KINDS)
    names = [category for category, _ in CATEGORIES]
    for kind in KINDS:
        chosen = left[labels[left] == names.index(kind)][:each]
        if len(chosen) < each:
            raise ValueError(f"Only {len(chosen)} images of {kind} are left of {each}.")
        for number in chosen:
            folder = out / kind / LEVELS[shade[number]]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:05d}.png").write_bytes(png(images[number]))
    return each * len(KINDS)


def main() -> None:
    """Run the command line of `python -m dagster_project.example.garments`."""
    parser = argparse.ArgumentParser(description="Builds a pool of public garments.")
    parser.add_argument("out", type=Path, metavar="DST", help="folder to write")
    parser.add_argument("--source", type=Path, default=DEBIAN_FOLDER, help="folder of IDX files")
    arguments = parser.parse_args()
    try:
        written = build(arguments.source, arguments.out)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"Wrote {written} images into {arguments.out}/")


if __name__ == "__main__":
    main()
