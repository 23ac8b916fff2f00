"""Image grid of a comparison: real pairs, then each method at each epsilon.

Columns are the values of the first categorical attribute, or random records if there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dagster_project.benchmark import project
from dagster_project.benchmark.configuration import Configuration, Trial
from dagster_project.benchmark.trial import Places
from dagster_project.data.pairs import Pairs
from dagster_project.data.schema import Schema
from dagster_project.evaluation.plots import INK, PAPER, image_grid

_IMAGES = 20  # in a row, approximately
_CAPTION = "NOT A RELEASE: images of a comparison on public data"


def draw(configuration: Configuration, trials: Sequence[Trial], places: Places) -> Image.Image:
    """Draw real images above those of the first seed of every finished method and epsilon."""
    schema = places.schema()
    folder = project.real_pairs(places.data, schema, configuration.data_version, cache=places.cache)
    heldout = Pairs.load(folder / "heldout")
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(len(heldout), min(len(heldout), 400), replace=False))
    rows = [("real", heldout.images[some], heldout.codes[some])]
    shown: set[tuple[str, float]] = set()
    for trial in trials:
        if (trial.label, trial.epsilon) in shown or not places.result(trial).is_file():
            continue
        shown.add((trial.label, trial.epsilon))
        with np.load(places.images(trial), allow_pickle=False) as kept:
            rows.append(
                (f"{trial.label}, epsilon {trial.epsilon:g}", kept["images"], kept["codes"])
            )
    return _sheet(rows, schema)


def _sheet(rows: Sequence[tuple[str, np.ndarray, np.ndarray]], schema: Schema) -> Image.Image:
    place, labels, each = _columns(schema)
    strips = [image_grid(_chosen(images, codes, place, len(labels), each), len(labels) * each)
              for _, images, codes in rows]  # fmt: skip
    font = ImageFont.load_default(size=15)
    margin = 16 + max(math.ceil(font.getlength(name)) for name, *_ in rows)
    top, step = 48, strips[0].height + 4
    width = max(margin + strips[0].width, 16 + math.ceil(font.getlength(_CAPTION)))
    sheet = Image.new("RGB", (width, top + step * len(strips)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((4, 12), _CAPTION, fill=INK, font=font, anchor="lm")
    span = strips[0].width / len(labels)
    for i, label in enumerate(labels):
        pen.text((margin + span * (i + 0.5), 36), label, fill=INK, font=font, anchor="mm")
    for n, ((name, *_), strip) in enumerate(zip(rows, strips, strict=True)):
        pen.text((4, top + n * step + strip.height / 2), name, fill=INK, font=font, anchor="lm")
        sheet.paste(strip, (margin, top + n * step))
    return sheet


def _columns(schema: Schema) -> tuple[int | None, tuple[str, ...], int]:
    """Return the attribute of the columns, their headings, and the number of images in each."""
    for i, attribute in enumerate(schema.attributes):
        if attribute.kind == "categorical" and attribute.size <= _IMAGES:
            return i, attribute.labels, max(1, _IMAGES // attribute.size)
    return None, ("",), _IMAGES


def _chosen(
    images: np.ndarray, codes: np.ndarray, place: int | None, columns: int, each: int
) -> np.ndarray:
    """Return `each` images for each column, padded with white."""
    chosen = np.full((columns * each, *images.shape[1:]), 255, np.uint8)
    for column in range(columns):
        rows = (
            np.arange(len(images)) if place is None else np.flatnonzero(codes[:, place] == column)
        )
        found = rows[:each]
        chosen[column * each : column * each + len(found)] = images[found]
    return chosen
