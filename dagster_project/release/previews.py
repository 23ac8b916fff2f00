"""Preview grids of a release: one grid for each attribute, with one row for each of its cells.

They show only released pairs. Images of private data are only in the private report.
"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from dagster_project.data.schema import Attribute, Schema

_COLUMNS = 12
_MOST_ROWS = 24
_SIDE = 56  # minimum in pixels; small images are enlarged by an integer factor
_GAP = 4


def encode_png(image: np.ndarray) -> bytes:
    """Encode one image, uint8 (C, H, W) with one or three channels, as PNG bytes."""
    stream = io.BytesIO()
    array = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
    Image.fromarray(np.ascontiguousarray(array)).save(stream, format="png")
    return stream.getvalue()


def draw(images: list[bytes], records: pd.DataFrame, schema: Schema) -> dict[str, bytes]:
    """Draw PNG grids by file name: one of all images, then one for each attribute.

    Args:
        images: PNG bytes of N images.
        records: Records of the images, in the columns of a release.
        schema: Cells and labels of the attributes.
    """
    sheets = {"00-all.png": _sheet([("", list(range(min(len(images), 96))))], images)}
    for i, attribute in enumerate(schema.attributes, start=1):
        rows = _rows(attribute, records[attribute.column])
        sheets[f"{i:02d}-{attribute.name.replace(' ', '-')}.png"] = _sheet(rows, images)
    return sheets


def _rows(attribute: Attribute, column: pd.Series) -> list[tuple[str, list[int]]]:
    codes, _ = attribute.encode(column)
    return [
        (label, [int(i) for i in np.flatnonzero(codes == cell)[:_COLUMNS]])
        for cell, label in list(enumerate(attribute.labels))[:_MOST_ROWS]
    ]


def _sheet(rows: list[tuple[str, list[int]]], images: list[bytes]) -> bytes:
    """Draw labelled rows of images; a row longer than the sheet is wrapped."""
    font = ImageFont.load_default(size=13)
    margin = max(int(font.getlength(label)) for label, _ in rows)
    margin += 3 * _GAP if margin else _GAP
    lines = [
        (label if start == 0 else "", indices[start : start + _COLUMNS])
        for label, indices in rows
        for start in range(0, max(len(indices), 1), _COLUMNS)
    ]
    first = Image.open(io.BytesIO(images[0]))
    scale = max(1, -(-_SIDE // max(first.size)))
    width, height = (side * scale for side in first.size)
    size = (margin + _COLUMNS * (width + _GAP), _GAP + len(lines) * (height + _GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (label, indices) in enumerate(lines):
        top = _GAP + row * (height + _GAP)
        pen.text((_GAP, top + height // 2), label, fill="black", font=font, anchor="lm")
        for column, index in enumerate(indices):
            image = Image.open(io.BytesIO(images[index])).convert("RGB")
            enlarged = image.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (margin + column * (width + _GAP), top))
    stream = io.BytesIO()
    sheet.save(stream, format="png")
    return stream.getvalue()
