"""Plots of results: image grids and marginal bars, as PIL images and PNG bytes.

They are used by the fidelity report and as metadata of the assets. The caller must ensure that
plots of private data stay in the private zone.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from dagster_project.data.schema import Schema

INK, PAPER, MUTED = "#1f2430", "#ffffff", "#69707d"
COLOURS = ("#8a919d", "#4059ad", "#d97a34", "#3d8c6c")  # the first is for real data
_CELL = 56  # pixels that an image's longer side is enlarged to, at least


def image_grid(
    images: np.ndarray, columns: int, scale: int | None = None, *, clear: bool = False
) -> Image.Image:
    """Arrange images in a grid, row by row, with thin gaps.

    Args:
        images: uint8 (N, C, H, W), C = 1 or 3; N may be 0.
        columns: Images in a row.
        scale: Integer enlargement, nearest neighbour; by default, small images become visible.
        clear: Whether gaps are transparent, for pages with a dark mode, instead of white.

    Returns:
        RGB image (RGBA if clear) with ceil(N / columns) rows (at least one).
    """
    height, width = images.shape[2:]
    gap = 1
    rows = max(1, math.ceil(len(images) / columns))
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    opaque = np.zeros(canvas.shape[:2], np.uint8)
    for n, image in enumerate(np.asarray(images)):
        top, left = (n // columns) * (height + gap), (n % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
        opaque[top : top + height, left : left + width] = 255
    grid = Image.fromarray(canvas)
    if clear:
        grid.putalpha(Image.fromarray(opaque))
    factor = scale or max(1, math.ceil(_CELL / max(height, width)))
    return grid.resize((grid.width * factor, grid.height * factor), Image.Resampling.NEAREST)


def rows_by_attribute(
    codes: np.ndarray, schema: Schema, attribute: str, columns: int
) -> list[tuple[str, np.ndarray]]:
    """Return each cell of an attribute: its label and its first `columns` rows."""
    i = schema.names.index(attribute)
    column = np.asarray(codes)[:, i]
    labels = schema.attributes[i].labels
    return [(label, np.flatnonzero(column == j)[:columns]) for j, label in enumerate(labels)]


def grid_by_attribute(
    images: np.ndarray, codes: np.ndarray, schema: Schema, attribute: str, columns: int = 8
) -> Image.Image:
    """Draw one labelled row of images for each cell of an attribute.

    Args:
        images: uint8 (N, C, H, W).
        codes: Cell codes (N, d), in schema order.
        schema: The schema of the codes.
        attribute: Name of the attribute.
        columns: Maximum number of images in a row.
    """
    rows = rows_by_attribute(codes, schema, attribute, columns)
    strips = [image_grid(np.asarray(images[found]), columns) for _, found in rows]
    font = ImageFont.load_default(size=15)
    margin = 16 + max(math.ceil(font.getlength(label)) for label, _ in rows)
    step = strips[0].height + 4
    sheet = Image.new("RGB", (margin + strips[0].width, step * len(strips) - 4), PAPER)
    draw = ImageDraw.Draw(sheet)
    for n, ((label, _), strip) in enumerate(zip(rows, strips, strict=True)):
        draw.text((4, n * step + strip.height / 2), label, fill=INK, font=font, anchor="lm")
        sheet.paste(strip, (margin, n * step))
    return sheet


def shares(codes: np.ndarray, size: int) -> np.ndarray:
    """Return the share of one attribute's codes (N,) in each of `size` cells, float64 (size,)."""
    return np.bincount(np.asarray(codes, dtype=np.int64), minlength=size) / max(1, len(codes))


def marginal_bars(schema: Schema, tables: Mapping[str, np.ndarray], columns: int = 3) -> bytes:
    """Plot every attribute's distribution as bars in a small chart of its own, as PNG bytes.

    Args:
        schema: The schema of the codes.
        tables: Cell codes (N, d) by legend label, at most four; drawn in this order.
        columns: Charts in a row.
    """
    d = len(schema.attributes)
    columns = min(columns, d)
    bands = [schema.attributes[start : start + columns] for start in range(0, d, columns)]
    heights = [max(a.size for a in band) * 0.24 + 0.75 for band in bands]
    figure = Figure(figsize=(4.0 * columns, sum(heights) + 0.3), layout="constrained")
    axes = figure.subplots(len(bands), columns, squeeze=False, height_ratios=heights)
    thickness = 0.8 / len(tables)
    palette = COLOURS if len(tables) > 1 else COLOURS[1:]
    for n, ax in enumerate(axes.flat):
        if n >= d:
            ax.set_axis_off()
            continue
        attribute = schema.attributes[n]
        for t, (label, codes) in enumerate(tables.items()):
            offset = (t - (len(tables) - 1) / 2) * thickness
            values = shares(codes[:, n], attribute.size)
            ax.barh(
                np.arange(attribute.size) + offset, values, thickness * 0.92,
                label=label, color=palette[t],
            )  # fmt: skip
        ax.set_yticks(np.arange(attribute.size), attribute.labels, fontsize=8)
        ax.invert_yaxis()
        ax.set_title(attribute.name, loc="left", fontsize=10, color=INK, fontweight="bold")
        ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f}%")
        ax.tick_params(length=0, labelcolor=MUTED, labelsize=8)
        ax.spines[:].set_visible(False)
        ax.grid(axis="x", color="#e4e7ec", linewidth=0.8)
        ax.set_axisbelow(True)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor=PAPER)
    return buffer.getvalue()


def png_bytes(image: Image.Image) -> bytes:
    """Encode the image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def data_uri(png: bytes) -> str:
    """Encode PNG bytes as a data URI, for self-contained HTML and Markdown."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
