"""CelebA (Liu et al., ICCV 2015): 202,599 aligned faces with 40 binary attributes.

The data is expected as its owners distribute it: Anno/list_attr_celeba.txt and the unpacked
Img/img_align_celeba/, or both at the top. Kaggle's edition has list_attr_celeba.csv instead, and
the folder of images inside a folder of the same name. Anno/identity_CelebA.txt, if present, gives
the identity of each face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from dagster_project.data.images import read_inside
from dagster_project.data.lines import WIDTH, BrokenRow, csv_header, csv_rows, text_lines
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

IMAGES, PEOPLE = 202_599, 10_177  # from the data set's page
# All 40 except Arched_Eyebrows, Attractive, Bags_Under_Eyes, Big_Lips, Big_Nose, Blurry, Chubby,
# Double_Chin, High_Cheekbones, Narrow_Eyes, Oval_Face, Pale_Skin, Pointy_Nose and Rosy_Cheeks:
# matters of taste or degree, on which annotators agree least (Wu et al., CVPRW 2023).
ATTRIBUTES = (
    "5_o_Clock_Shadow",
    "Bald",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "No_Beard",
    "Receding_Hairline",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
_VALUES = {"1": "yes", "-1": "no"}
_NO_IMAGE = BrokenRow("line that names no image")
_NO_IDENTITY = BrokenRow("image without exactly one identity")


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the attribute list and the folder of images.

    Raises:
        WrongArchive: One of them is missing or malformed.
    """
    listed = find(
        source,
        "list_attr_celeba.txt",
        "Anno/list_attr_celeba.txt",
        "list_attr_celeba.csv",
        what="CelebA's list of attributes",
    )
    images = find(
        source,
        "img_align_celeba/img_align_celeba",
        "img_align_celeba",
        "Img/img_align_celeba",
        what="the folder of aligned faces (img_align_celeba.zip, unpacked)",
    )
    names, total, lines = (_kaggle if listed.suffix == ".csv" else _official)(listed)
    default = tuple(name for name in ATTRIBUTES if name in names)
    attributes = chosen(dict.fromkeys(names, YES_NO), default, request.attributes)
    identities = _identities(source, required=request.unit == "person")
    by_person = request.unit == "person"
    share = 0.8 if request.validation == "train" else 0.7

    def row(line: list[str] | BrokenRow) -> Row | BrokenRow:
        if isinstance(line, BrokenRow):
            return line
        name, *values = line or [""]
        if not name.endswith(".jpg"):
            return _NO_IMAGE
        if len(values) != len(names):
            return WIDTH
        found = dict(zip(names, values, strict=True))
        group = identities.get(name)
        if by_person and group is None:
            return _NO_IDENTITY
        return Row(
            person=group if by_person and group is not None else name,
            record={a: _VALUES.get(found[a].strip()) for a in attributes},
            image=partial(read_inside, images, name),
            part=part_of(group or name),
        )

    def rows() -> Iterator[Row | BrokenRow]:
        return map(row, lines())

    unit = (
        "One person is one identity of identity_CelebA.txt; one image of each is used."
        if by_person
        else "Each image counts as a person, as in the DP-TabImage paper: the unit of privacy "
        "is one image, not a celebrity with several."
    )
    split = "identity, so that nobody is in two parts" if identities else "image"
    return Archive(
        name="celeba",
        attributes=attributes,
        channels=request.channels or 3,
        size=request.size or (40, 40),
        rows=rows,
        total=total,
        documented=int(round((PEOPLE if by_person else IMAGES) * share, -2)),
        about=(
            "CelebA (Liu et al., ICCV 2015). Attributes and their two values are those of its "
            "documentation (list_attr_celeba.txt: 1 is yes, -1 is no).",
            "The paper does not list its 26 attributes; by default these are the 40 without 14 "
            "that are matters of taste or degree, on which annotators agree least.",
            unit,
            f"Split 7 : 1 : 2 into training, validation and held-out by a hash of the {split}.",
        ),
    )


Lines = Callable[[], Iterator[list[str] | BrokenRow]]


def _official(listed: Path) -> tuple[list[str], int, Lines]:
    """Return the attributes, the number of images and the lines of list_attr_celeba.txt."""
    head = [text for _, text in islice(text_lines(listed), 2) if isinstance(text, str)]
    count, names = (head[0].strip(), head[1].split()) if len(head) == 2 else ("", [])
    if not count.isdigit() or len(names) != 40 or set(ATTRIBUTES) - set(names):
        raise WrongArchive(
            f"{listed.name} must begin with a line with the number of images and a line with "
            "the names of the 40 attributes"
        )

    def lines() -> Iterator[list[str] | BrokenRow]:
        for _, line in islice(text_lines(listed), 2, None):
            yield line if isinstance(line, BrokenRow) else line.split()

    return names, int(count), lines


def _kaggle(listed: Path) -> tuple[list[str], None, Lines]:
    """Return the attributes and the lines of Kaggle's list_attr_celeba.csv."""
    header = csv_header(listed)
    first, *names = header if isinstance(header, list) and header else [""]
    if first != "image_id" or not set(names) & set(ATTRIBUTES):
        raise WrongArchive(
            f"{listed.name} must begin with the column image_id and the names of attributes"
        )

    def lines() -> Iterator[list[str] | BrokenRow]:
        return (fields for _, fields in islice(csv_rows(listed), 1, None))

    return names, None, lines


def _identities(source: Path, *, required: bool) -> Mapping[str, str | None]:
    """Return the person of each image, None if lines disagree; empty if there is no such list."""
    try:
        listed = find(
            source,
            "identity_CelebA.txt",
            "Anno/identity_CelebA.txt",
            what="the list of identities that --unit person needs",
        )
    except WrongArchive:
        if required:
            raise
        return {}
    people: dict[str, str | None] = {}
    for _, line in text_lines(listed):
        if isinstance(line, str) and len(pair := line.split()) == 2:
            name, person = pair
            people[name] = person if people.get(name, person) == person else None
    return people
