"""ChestX-ray14 (Wang et al., CVPR 2017): 112,120 frontal X-rays of 30,805 patients.

The data is expected as the NIH distributes it: Data_Entry_2017.csv (or Data_Entry_2017_v2020.csv)
beside the unpacked images_001/images/ to images_012/images/, or one folder images/. Kaggle's random
sample has sample_labels.csv and sample/images/.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from dagster_project.data.images import read_inside
from dagster_project.data.lines import BrokenRow, csv_header, csv_rows
from dagster_project.importers.archive import (
    YES_NO,
    Archive,
    ImportRequest,
    Row,
    WrongArchive,
    categorical,
    chosen,
    find,
    part_of,
)

IMAGES, PEOPLE = 112_120, 30_805  # from the data set's README
SAMPLE_IMAGES, SAMPLE_PEOPLE = 5_606, 4_230  # from the page of Kaggle's sample
SAMPLE = "sample_labels.csv"
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
# Bounds are round numbers; a few documented ages (up to 414) are errors and are clamped.
AGE = [0, 20, 30, 40, 50, 60, 70, 80, 100]
FOLLOW_UP = [0, 1, 2, 5, 10, 20, 50, 200]
KNOWN: dict[str, dict[str, Any]] = {
    "sex": categorical(["M", "F"]),
    "view": categorical(["PA", "AP"]),
    **dict.fromkeys(FINDINGS, YES_NO),
    "age": {"kind": "numeric", "edges": AGE, "out_of_domain": "clamp"},
    "follow_up": {"kind": "numeric", "edges": FOLLOW_UP, "out_of_domain": "clamp"},
}
ATTRIBUTES = (
    "sex",
    "view",
    "Infiltration",
    "Effusion",
    "Atelectasis",
    "Nodule",
    "age",
    "follow_up",
)
_COLUMNS = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age")
_NO_IMAGE = BrokenRow("line that names no image")
_NO_PATIENT = BrokenRow("line that names no patient")
_YEARS = {"Y": 1.0, "M": 1 / 12, "D": 1 / 365}


def open_archive(source: Path, request: ImportRequest) -> Archive:
    """Inspect the entries' header and the names of the images.

    Raises:
        WrongArchive: Something is missing or malformed.
    """
    entries = find(
        source,
        "Data_Entry_2017.csv",
        "Data_Entry_2017_v2020.csv",
        SAMPLE,
        f"sample/{SAMPLE}",
        what="the NIH's list of entries",
    )
    places = ("images", "sample/images", "sample/sample/images")
    folders = [*sorted(source.glob("images_*/images")), *(source / place for place in places)]
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders:
        raise WrongArchive(
            f"X-rays were expected at images_001/images ..., images or sample/images in {source} "
            "(the archive files, unpacked)"
        )
    found = csv_header(entries)
    header = found if isinstance(found, list) else []
    sex = next((name for name in ("Patient Gender", "Patient Sex") if name in header), None)
    absent = [name for name in (*_COLUMNS, "View Position") if name not in header]
    if absent or sex is None:
        raise WrongArchive(f"{entries.name} lacks the column {(absent or ['Patient Gender'])[0]!r}")
    where = {path.name: folder for folder in folders for path in folder.glob("*.png")}
    attributes = chosen(KNOWN, ATTRIBUTES, request.attributes)
    by_person = request.unit != "image"
    sample = entries.name == SAMPLE
    images, people = (SAMPLE_IMAGES, SAMPLE_PEOPLE) if sample else (IMAGES, PEOPLE)
    share = 0.8 if request.validation == "train" else 0.7

    def row(fields: list[str] | BrokenRow) -> Row | BrokenRow:
        if isinstance(fields, BrokenRow):
            return fields
        entry = dict(zip(header, fields, strict=True))
        name = entry["Image Index"]
        if not name.endswith(".png"):
            return _NO_IMAGE
        # The first edition pads with zeros, the second does not.
        patient = entry["Patient ID"].strip().lstrip("0")
        if by_person and not patient:
            return _NO_PATIENT
        record = _record(entry, sex)
        return Row(
            person=patient if by_person else name,
            record={a: record[a] for a in attributes},
            image=partial(read_inside, where.get(name, folders[0]), name),
            part=part_of(patient or name),
        )

    def rows() -> Iterator[Row | BrokenRow]:
        return (row(fields) for _, fields in islice(csv_rows(entries), 1, None))

    unit = (
        "One person is one patient; one X-ray of each patient is used."
        if by_person
        else "Each X-ray counts as a person, as in the DP-TabImage paper: the unit of privacy "
        "is one X-ray, NOT a patient with several."
    )
    return Archive(
        name="chestxray14",
        attributes=attributes,
        channels=request.channels or 1,
        size=request.size or (40, 40),
        rows=rows,
        total=len(where),
        documented=int(round((people if by_person else images) * share, -2)),
        about=(
            "ChestX-ray14 (Wang et al., CVPR 2017). From the NIH's list of entries: sex (Patient "
            "Gender), view (View Position), each finding (yes if Finding Labels names it), age in "
            "years, follow_up (Follow-up #).",
            "Values and bounds are public: the README names findings, views and sexes; the edges "
            "of age and follow_up are round numbers.",
            "The paper does not list its 6 categorical and 2 numeric attributes; by default these "
            "are sex, view and the four findings that the documentation counts most often.",
            unit,
            "Split 7 : 1 : 2 into training, validation and held-out by a hash of the patient.",
        ),
    )


def _record(entry: dict[str, str], sex: str) -> dict[str, object]:
    found = set(entry.get("Finding Labels", "").split("|"))
    return {
        "sex": entry.get(sex) or None,
        "view": entry.get("View Position") or None,
        **{
            name: ("yes" if name in found else "no") if found != {""} else None for name in FINDINGS
        },
        "age": years(entry.get("Patient Age", "")),
        "follow_up": _number(entry.get("Follow-up #", "")),
    }


def years(text: str) -> float | None:
    """Parse an age in years: "58" of the second edition, "058Y", "006M" or "010D" of the first.

    >>> years("058Y"), years("006M"), years("58"), years("")
    (58.0, 0.5, 58.0, None)
    """
    text = text.strip()
    number = _number(text.rstrip("YMD"))
    return None if number is None else number * _YEARS.get(text[-1:], 1.0)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
