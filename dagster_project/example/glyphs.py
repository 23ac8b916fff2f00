"""Build another small example in grey: letters of 28 x 28 pixels with eight attributes.

    python -m dagster_project.example.glyphs DST [--fonts FOLDER]

The source is all TrueType and OpenType fonts in a folder, by default those of Debian's font
packages; all packages in PACKAGES together give about 640 fonts. The result is public data:
train.parquet (8,000 pairs), heldout.parquet (1,000 pairs, of other fonts) and schema.yaml. The same
fonts give the same bytes; other versions of them do not.

Letter and case are known from drawing. All other attributes are measured; a font's weight, slant
and class are measured on its capital T, since the metadata of fonts is often missing or wrong.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dagster_project.importers.archive import (
    Archive,
    ImportRequest,
    Row,
    WrongArchive,
    categorical,
    png,
)
from dagster_project.importers.writing import write

DEBIAN_FOLDER = Path("/usr/share/fonts")
PACKAGES = """
adf-accanthis adf-baskervald adf-berenis adf-gillius adf-ikarius adf-irianis adf-libris adf-mekanus
adf-romande adf-solothurn adf-switzera adf-tribun adf-universalis adf-verana averia-sans-gwf
averia-serif-gwf b612 cabin cantarell century-catalogue clear-sans cmu comfortaa comic-neue
courier-prime croscore crosextra-caladea crosextra-carlito dejavu dosis ebgaramond essays1743
fanwood fantasque-sans firacode freefont-ttf gfs-artemisia gfs-didot go goudybookletter hack
inconsolata inter jetbrains-mono junction junicode jura karla lato league-mono liberation lindenhill
linuxlibertine noto-core oldstandard open-sans oxygen quicksand roboto-unhinted sora stix tiresias
tuffy urw-base35 vollkorn yanone-kaffeesatz yrsa-rasa
"""  # of Debian 12, each after "fonts-"
MIN_FONTS = 20
SEED = 19840124  # public: it selects the held-out fonts and what is drawn of each
SIDE = 28

LETTERS = ("a", "b", "d", "e", "g", "k", "A", "E", "G", "R")
WEIGHTS = ("light", "regular", "bold")

# Public constants, chosen by hand on these public fonts: the measures of slant and class have a
# gap there, and the levels of the others have similar frequencies.
WEIGHT_CUTS = (0.115, 0.175)  # thickness of the T's stem over its height
SERIF_ABOVE = 1.5  # foot of the T over its stem
ITALIC_ABOVE = 0.06  # tangent of the stem's slant
HAIRLINE_BELOW = 0.04  # such a stem is thinner than a pixel and would nearly vanish
EDGES = {
    "ink": (0.0, 0.15, 0.19, 0.22, 0.28, 1.0),
    "width": (0.0, 0.45, 0.53, 0.6, 0.7, 1.0),
    "brightness": (0.0, 0.5, 0.58, 0.66, 0.74, 1.0),
}
INK_ABOVE = 0.2  # brightness of a pixel that belongs to the letter; the background is black
LONGEST = (17.0, 25.0)  # pixels of a letter's longer side
LIGHT = (0.5, 1.0)
SHIFT = 2  # pixels from the middle

_SIZE = 96  # at which letters are drawn; hinting no longer matters there
_NO_CHARACTER = "\uffff"  # never assigned: a font draws its missing-letter glyph for it
_SYMBOLS = re.compile(r"symbol|dingbat|emoji|icon|d050000l|cmex|cmsy", re.IGNORECASE)
_TWINS = 0.012  # mean difference of brightness of two fonts that are the same drawing
_ONE_CASE = 0.78  # correlation of "a" and "A", or "e" and "E", in a font with only capitals

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "letter": categorical(LETTERS),
    "case": categorical(("lower", "upper")),
    "weight": categorical(WEIGHTS),
    "slant": categorical(("upright", "italic")),
    "class": categorical(("sans", "serif")),
} | {
    name: {"kind": "numeric", "edges": list(edges), "out_of_domain": "clamp"}
    for name, edges in EDGES.items()
}
_NOTE = (
    "The public contract of the letters. Nothing here is computed from private data: the fonts "
    "are free software. Written by `python -m dagster_project.example.glyphs`.",
    "weight, slant, class: of the font, measured on its capital T",
    "ink: fraction of the frame that is bright",
    "width: of the letter, as a fraction of the frame's",
    "brightness: mean of the letter's pixels; 0 black, 1 white",
)


@dataclass(frozen=True)
class Font:
    """A font that draws every letter.

    Attributes:
        name: Path of its file below the folder of fonts.
        glyphs: The drawing of each of LETTERS, uint8 (H, W) without margins.
        record: weight, slant and class.
    """

    name: str
    glyphs: dict[str, np.ndarray]
    record: dict[str, object]


def measure(image: np.ndarray) -> dict[str, object]:
    """Return ink, width and brightness of an image, uint8 (H, W); each is 0 if it is dark."""
    x = image / 255.0
    ink = x > INK_ABOVE
    columns = np.flatnonzero(ink.any(axis=0))
    width = np.ptp(columns) + 1 if len(columns) else 0
    found = {
        "ink": ink.mean(),
        "width": width / image.shape[1],
        "brightness": x[ink].mean() if len(columns) else 0.0,
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def usable_fonts(folder: Path) -> list[Font]:
    """Return the fonts with two cases below a folder, sorted by name, without duplicates."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")]
    fonts: list[Font] = []
    known = np.empty((len(files), len(LETTERS), SIDE * SIDE), np.float32)
    for name in sorted(path.relative_to(folder).as_posix() for path in files):
        if (font := _font(folder / name, name)) is None:
            continue
        drawn = [_placed(glyph, 22.0, (0, 0)).ravel() for glyph in font.glyphs.values()]
        lines = known[len(fonts)] = np.stack(drawn) / np.float32(255)
        alike = np.asarray(np.corrcoef(lines))
        one_case = any(alike[LETTERS.index(x), LETTERS.index(x.upper())] > _ONE_CASE for x in "ae")
        # Several packages hold the same design, which must not be on both sides of the split.
        twins = np.abs(known[: len(fonts)] - lines).mean(axis=(1, 2)) < _TWINS
        if not one_case and not twins.any():
            fonts.append(font)
    return fonts


def build(folder: Path, out: Path, *, train: int = 8_000, heldout: int = 1_000) -> tuple[int, int]:
    """Write train.parquet, heldout.parquet and schema.yaml into `out`; the bytes are reproducible.

    Args:
        folder: Folder of the fonts, at any depth.
        out: The folder to make: absent or empty.
        train, heldout: Numbers of pairs; no font is used for both.

    Returns:
        Number of fonts of the training pairs and of the held-out pairs.

    Raises:
        WrongArchive: There are too few usable fonts, or `out` is taken.
    """
    fonts = usable_fonts(folder)
    if len(fonts) < MIN_FONTS:
        packages = " ".join(f"fonts-{name}" for name in PACKAGES.split())
        raise WrongArchive(
            f"{folder} holds {len(fonts)} usable fonts; at least {MIN_FONTS} are needed: "
            f"apt-get install --no-install-recommends {packages}"
        )
    cut = max(1, round(len(fonts) * heldout / (train + heldout)))
    archive = Archive(
        attributes=ATTRIBUTES,
        channels=1,
        size=(SIDE, SIDE),
        rows=lambda: _rows(fonts, cut, train, heldout),
        name="glyphs",
        documented=train,
        about=_NOTE,
    )
    write(archive, out, ImportRequest(public=True))
    return len(fonts) - cut, cut


def _rows(fonts: list[Font], cut: int, train: int, heldout: int) -> Iterator[Row]:
    """Yield training rows, then held-out ones, for which `cut` fonts are reserved."""
    rng = np.random.default_rng(SEED)
    order = [fonts[i] for i in rng.permutation(len(fonts))]
    for i in range(train + heldout):
        chosen = order[cut:] if i < train else order[:cut]
        font, letter = chosen[i % len(chosen)], LETTERS[rng.integers(len(LETTERS))]
        down, right = rng.integers(-SHIFT, SHIFT + 1, 2)
        image = _placed(font.glyphs[letter], rng.uniform(*LONGEST), (down, right))
        image = np.rint(image * rng.uniform(*LIGHT)).astype(np.uint8)
        case = "upper" if letter.isupper() else "lower"
        record = {"letter": letter, "case": case, **font.record, **measure(image)}
        person = f"{font.name}#{i}"
        yield Row(person, record, partial(png, image), "train" if i < train else "heldout")


def _font(path: Path, name: str) -> Font | None:
    """Return the font of a file; None if it lacks a letter, holds symbols or is too thin."""
    try:
        face = ImageFont.truetype(path, _SIZE, layout_engine=ImageFont.Layout.BASIC)
        drawn = {letter: _drawn(face, letter) for letter in (*LETTERS, "T", _NO_CHARACTER)}
    except (OSError, ValueError):  # damaged, or drawn in colours
        return None
    missing = drawn.pop(_NO_CHARACTER)
    if _SYMBOLS.search(f"{name} {face.getname()[0]}") or not all(p.size for p in drawn.values()):
        return None
    if any(np.array_equal(image, missing) for image in drawn.values()):
        return None
    record = _style(drawn.pop("T"))
    return None if record is None else Font(name, drawn, record)


def _drawn(face: ImageFont.FreeTypeFont, letter: str) -> np.ndarray:
    """Draw a letter in white on black, uint8 (H, W) without margins; (0, 0) if it is empty."""
    canvas = Image.new("L", (4 * _SIZE, 4 * _SIZE))
    ImageDraw.Draw(canvas).text((_SIZE, _SIZE), letter, font=face, fill=255)
    return np.asarray(canvas.crop(canvas.getbbox() or (0, 0, 0, 0)))


def _style(t: np.ndarray) -> dict[str, object] | None:
    """Measure weight, slant and class on a font's capital T, uint8 (H, W); None for a hairline."""
    height = len(t)
    rows = t.sum(axis=1) / 255.0
    top, bottom, foot = (int(share * height) for share in (0.4, 0.75, 0.93))
    stem = float(np.median(rows[top:bottom]))
    if stem < HAIRLINE_BELOW * height:
        return None
    middles = (t / 255.0 * np.arange(t.shape[1])).sum(axis=1) / np.maximum(rows, 1e-9)
    slant = (middles[top] - middles[bottom]) / (bottom - top)
    return {
        "weight": WEIGHTS[int(np.digitize(stem / height, WEIGHT_CUTS))],
        "slant": "italic" if slant > ITALIC_ABOVE else "upright",
        "class": "serif" if rows[foot:].max() > SERIF_ABOVE * stem else "sans",
    }


def _placed(glyph: np.ndarray, longest: float, shift: tuple[int, int]) -> np.ndarray:
    """Place a whole drawing in the frame, uint8 (28, 28), with the given longer side and shift."""
    size = np.maximum(np.rint(np.array(glyph.shape) * longest / max(glyph.shape)), 1).astype(int)
    small = Image.fromarray(glyph).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    down, right = np.clip((SIDE - size) // 2 + shift, 0, SIDE - size)
    frame = np.zeros((SIDE, SIDE), np.uint8)
    frame[down : down + size[0], right : right + size[1]] = np.asarray(small)
    return frame


def main() -> None:
    """Run the command line of `python -m dagster_project.example.glyphs`."""
    parser = argparse.ArgumentParser(description="Builds the letters example.")
    parser.add_argument("out", type=Path, metavar="DST", help="folder to write: new or empty")
    parser.add_argument("--fonts", type=Path, default=DEBIAN_FOLDER, help="folder of fonts")
    arguments = parser.parse_args()
    try:
        train, held_out = build(arguments.fonts, arguments.out)
    except WrongArchive as error:
        parser.exit(2, f"{error}\n")
    print(f"Wrote pairs of {train} training and {held_out} held-out fonts into {arguments.out}/")


if __name__ == "__main__":
    main()
