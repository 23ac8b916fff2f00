"""DeepFashion-MultiModal (Jiang et al., SIGGRAPH 2022): 42,544 annotated fashion images.

The data is expected unpacked as its owners distribute it: images/, labels/shape/shape_anno_all.txt
and, for attributes of fabric or pattern, labels/texture/fabric_ann.txt and pattern_ann.txt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dagster_project.data.images import read_inside
from dagster_project.data.lines import WIDTH, BrokenRow, text_lines
from dagster_project.importers.archive import (
    YES_NO,
    Archive,
    ImportRequest,
    Row,
    WrongArchive,
    chosen,
    find,
    part_of,
)

IMAGES = 42_544  # this many have labels; the data set's page counts 44,096 images
_ITEM = re.compile(r"id_\d{8}")
_CODE = re.compile(r"[0-9]{1,4}")  # Python counts "²" as a digit
_NO_CODE = BrokenRow("line with an annotation that is not a code")

# The source of each attribute: its file, the columns of which any counts, and the codes that mean
# "yes". All others, among them "NA" (not visible), are "no", so that each attribute is binary.
KNOWN: dict[str, tuple[str, tuple[int, ...], frozenset[int]]] = {
    "long_sleeves": ("shape", (0,), frozenset({3})),
    "long_lower_clothing": ("shape", (1,), frozenset({3})),
    "socks": ("shape", (2,), frozenset({1})),
    "hat": ("shape", (3,), frozenset({1})),
    "glasses": ("shape", (4,), frozenset({1, 2})),
    "neckwear": ("shape", (5,), frozenset({1})),
    "wrist_wearing": ("shape", (6,), frozenset({1})),
    "ring": ("shape", (7,), frozenset({1})),
    "waist_accessory": ("shape", (8,), frozenset({1, 2})),
    "round_neckline": ("shape", (9,), frozenset({2})),
    "cardigan": ("shape", (10,), frozenset({0})),
    "navel_covered": ("shape", (11,), frozenset({1})),
    "sleeveless": ("shape", (0,), frozenset({0})),
    "v_neckline": ("shape", (9,), frozenset({0})),
    "denim": ("fabric", (0, 1, 2), frozenset({0})),
    "cotton": ("fabric", (0, 1, 2), frozenset({1})),
    "knitted": ("fabric", (0, 1, 2), frozenset({4})),
    "chiffon": ("fabric", (0, 1, 2), frozenset({5})),
    "floral": ("pattern", (0, 1, 2), frozenset({0})),
    "graphic": ("pattern", (0, 1, 2), frozenset({1})),
    "striped": ("pattern", (0, 1, 2), frozenset({2})),
    "plain": ("pattern", (0, 1, 2), frozenset({3})),
}
ATTRIBUTES = tuple(KNOWN)[:12]  # one for each of the twelve annotations of shape
_FILES = {
    "shape": ("shape/shape_anno_all.txt", 12),
    "fabric": ("texture/fabric_ann.txt", 3),
    "pattern": ("texture/pattern_ann.txt", 3),
}


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the annotations' first lines and the folder of images.

    Raises:
        WrongArchive: Something is missing or malformed.
    """
    attributes = chosen(dict.fromkeys(KNOWN, YES_NO), ATTRIBUTES, request.attributes)
    wanted = {"shape"} | {KNOWN[name][0] for name in attributes}
    lists = {kind: _list(source, kind) for kind in _FILES if kind in wanted}
    images = find(source, "images", "image", what="the folder of images (images.zip, unpacked)")
    by_item = request.unit == "person"
    share = 0.8 if request.validation == "train" else 0.7

    def rows() -> Iterator[Row | BrokenRow]:
        textures = {
            kind: dict(found for found in _codes(file, kind) if not isinstance(found, BrokenRow))
            for kind, file in lists.items()
            if kind != "shape"
        }
        for line in _codes(lists["shape"], "shape"):
            if isinstance(line, BrokenRow):
                yield line
                continue
            name, shape = line
            codes = {"shape": shape} | {kind: t.get(name) for kind, t in textures.items()}
            found = _ITEM.search(name)
            item = found[0] if found else name
            yield Row(
                person=item if by_item else name,
                record={a: _answer(codes, a) for a in attributes},
                image=partial(read_inside, images, name),
                part=part_of(item),
            )

    unit = (
        "One person is one item of the shop (id_...): one model in one garment, seen from several "
        "sides; one image of each is used. The data names no people."
        if by_item
        else "Each image counts as a person, as in the DP-TabImage paper; the data names no people."
    )
    return Archive(
        name="deepfashion-multimodal",
        attributes=attributes,
        channels=request.channels or 3,
        size=request.size or (48, 32),
        rows=rows,
        total=IMAGES,
        documented=None if by_item else int(round(IMAGES * share, -2)),
        about=(
            "DeepFashion-MultiModal (Jiang et al., SIGGRAPH 2022). Each attribute is yes for the "
            "codes of its documentation that its name describes, otherwise no; parts that are not "
            "visible count as no.",
            "The paper does not list its 12 binary attributes; by default there is one for each of "
            "the twelve annotations of shape.",
            unit,
            "Split 7 : 1 : 2 into training, validation and held-out by a hash of the shop's item.",
        ),
    )


def _list(source: Path, kind: str) -> Path:
    name, columns = _FILES[kind]
    file = find(source, f"labels/{name}", name, what=f"the list of {kind} annotations")
    if all(isinstance(line, BrokenRow) for line in _codes(file, kind)):
        raise WrongArchive(
            f"{file.name} must hold lines with an image's name and {columns} whole numbers"
        )
    return file


def _codes(file: Path, kind: str) -> Iterator[tuple[str, list[int]] | BrokenRow]:
    """Yield the name and codes of each line's image."""
    for _, line in text_lines(file):
        if isinstance(line, BrokenRow):
            yield line
            continue
        name, *codes = line.split() or [""]
        if len(codes) != _FILES[kind][1]:
            yield WIDTH
        elif not all(_CODE.fullmatch(code) for code in codes):
            yield _NO_CODE
        else:
            yield name, [int(code) for code in codes]


def _answer(codes: dict[str, list[int] | None], attribute: str) -> str | None:
    kind, columns, yes = KNOWN[attribute]
    of_kind = codes[kind]
    if of_kind is None:
        return None
    return "yes" if any(of_kind[i] in yes for i in columns) else "no"
