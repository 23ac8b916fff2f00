"""Build an example in the forms that hospitals have: chest radiographs of three sites.

    python -m dagster_project.example.hospital clinic --people 5000

People and pictures are invented: `phantoms` draws the pictures. DST/data holds the export:
records.csv as Excel saves it, and images/ with DICOM and 16-bit PNG files of 128 x 128 pixels,
several for some people. DST/answers holds the schema.yaml and population.yaml that a steward would
write for it. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dagster_project.example.phantoms import FINDINGS, Body, radiograph

SIDE, WHITE = 128, 4095  # pixels; the value that absorbs most, of 12 bits
SEED = 18951108
SITES = {"Zürich": "ZRH", "Genève": "GVA", "Bern": "BRN"}  # and their folders
NOTHING = "No finding"
FIRST_DAY, DAYS = date(2019, 1, 1), 6 * 365
UNREADABLE, LOST = 0.01, 0.01  # shares of sexes that are not recorded and of files that are lost
COLUMNS = (
    "patient",
    "study date",
    "age",
    "sex",
    "BMI",
    "site",
    "view",
    "findings",
    "file",
    "report",
)

SCHEMA = """\
# The public contract of the hospital example: domains from common knowledge, none from the records.
name: Three clinics
public: false
population: Three-clinics
person_id: patient
n_public: {people}
table:
  delimiter: ";"
  encoding: cp1252
  decimal: ","
  line_breaks: true         # in the report, the last column
  missing_values: [n/a]
  ignore: [report]
image:
  column: file
  channels: 1
  height: 32
  width: 32
  window: {{low: 0, high: 4095}}
  separator: '\\'
  strip_prefix: 'H:\\PACS\\export'
  pictures_per_person: one
attributes:
  study_date:
    kind: date
    column: study date
    edges: [2019-01-01, 2021-01-01, 2023-01-01, 2025-01-01]
    format: "%d.%m.%Y"
  age: {{kind: age, unit: years, edges: [0, 18, 40, 60, 75, 110], out_of_domain: clamp}}
  sex: {{kind: categorical, categories: [f, m], ignore_case: true, missing: true}}
  BMI: {{kind: numeric, edges: [10, 20, 25, 30, 60], out_of_domain: clamp, missing: true}}
  site: {{kind: categorical, categories: [Zürich, Genève, Bern]}}
  view: {{kind: categorical, categories: [PA, lateral], aliases: {{LL: lateral}}}}
  findings:
    kind: labels
    labels: [Effusion, Nodule, Cardiomegaly, Infiltrate]
    none: No finding
"""
POPULATION = """\
# Whose privacy is counted: everybody with a radiograph at one of the three clinics.
population: Three-clinics
unit: person
relation: add_remove
lifetime_epsilon: 10.0
target_delta: 1.0e-6
n_public: {people}
ledger: ledger/ledger.sqlite
anchor: null
"""


@dataclass(frozen=True)
class Study:
    """One picture and its record.

    Attributes:
        person: Number of the person.
        number: Which of the person's pictures it is, from 0.
        body: The person's build.
        day: Day of the picture.
        age: Age in years on that day.
        site: Key of `SITES`.
        lateral: Whether the picture was taken from the side.
        findings: Some of `FINDINGS`.
    """

    person: int
    number: int
    body: Body
    day: date
    age: float
    site: str
    lateral: bool
    findings: frozenset[str]

    @property
    def patient(self) -> str:
        """Identifier of the person."""
        return f"P{self.person:06d}"

    @property
    def file(self) -> str:
        """Path of the picture below the folder of images, with slashes."""
        suffix = "png" if self.site == "Bern" else "dcm"
        return f"{SITES[self.site]}/{self.patient}_{self.number}.{suffix}"


def studies(people: int, seed: int = SEED) -> Iterator[Study]:
    """Yield the studies of invented people, person by person."""
    for person in range(people):
        rng = np.random.default_rng([seed, person])
        age = float(np.clip(rng.gamma(6, 9.5), 0.5, 100))
        bmi = float(np.clip(17 + 0.09 * min(age, 60) + rng.gamma(3, 1.5), 12, 55))
        body = Body.draw(rng, female=bool(rng.random() < 0.5), bmi=round(bmi, 1))
        site = str(rng.choice(list(SITES), p=(0.45, 0.3, 0.25)))
        day = FIRST_DAY + timedelta(days=int(rng.integers(DAYS)))
        last = FIRST_DAY + timedelta(days=DAYS)
        for number in range(1 + min(int(rng.poisson(0.6)), 4)):
            found = frozenset(f for f, p in _odds(age, bmi).items() if rng.random() < p)
            lateral = bool(rng.random() < (0.6 if number else 0.2))
            yield Study(person, number, body, day, age, site, lateral, found)
            later = min(last, day + timedelta(days=int(rng.integers(200))))
            age, day = age + (later - day).days / 365.25, later


def _odds(age: float, bmi: float) -> dict[str, float]:
    chances = (
        0.05 + 0.002 * age,
        0.02 + 0.0015 * age,
        0.03 + 0.002 * age + 0.006 * (bmi - 22),
        0.13,
    )
    return dict(zip(FINDINGS, np.clip(chances, 0.01, 0.6), strict=True))


def picture(study: Study, seed: int = SEED) -> bytes:
    """Return the file of a study's picture: DICOM, or a PNG of 16 bits.

    The stored values differ by site; what the schema declares makes them comparable.
    """
    rng = np.random.default_rng([seed, study.person, 1 + study.number])
    shades = radiograph(
        study.body,
        age=study.age,
        lateral=study.lateral,
        findings=study.findings,
        side=SIDE,
        rng=rng,
    )
    values = np.rint(shades * WHITE).astype(np.uint16)
    stream = io.BytesIO()
    if study.site == "Bern":
        Image.fromarray(values).save(stream, "PNG")
    elif study.site == "Genève":  # dark is stored as the largest value
        _dicom(study, WHITE - values, "MONOCHROME1", slope=1, intercept=0).save_as(
            stream, enforce_file_format=True
        )
    else:  # stored value * 2 - 1000
        _dicom(study, (values + 1000) // 2, "MONOCHROME2", slope=2, intercept=-1000).save_as(
            stream, enforce_file_format=True
        )
    return stream.getvalue()


def _dicom(study: Study, stored: np.ndarray, form: str, *, slope: int, intercept: int) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # computed radiography
    data.SOPInstanceUID = f"2.25.{study.person * 10 + study.number + 1}"
    data.Modality, data.ViewPosition = "CR", "LL" if study.lateral else "PA"
    # A header names people. It goes nowhere: only the pixels and what gives them meaning are read.
    data.PatientID, data.PatientName = study.patient, f"Invented^Person {study.person}"
    data.StudyDate = study.day.strftime("%Y%m%d")
    data.Rows = data.Columns = SIDE
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, form
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    data.PixelData = stored.astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    return data


def record(study: Study, rng: np.random.Generator) -> list[str]:
    """Return the cells of a study's row, as people type them."""
    sex = "f" if study.body.female else "m"
    found = "|".join(f for f in FINDINGS if f in study.findings) or NOTHING
    cells = (
        study.patient,
        study.day.strftime("%d.%m.%Y"),
        f"{int(study.age):03d}Y" if study.age >= 2 else f"{int(12 * study.age):03d}M",
        "n/a" if rng.random() < UNREADABLE else (sex.upper() if study.site == "Bern" else sex),
        "" if rng.random() < 0.1 else f"{study.body.bmi:.1f}".replace(".", ","),
        study.site,
        ("LL" if rng.random() < 0.5 else "lateral") if study.lateral else "PA",
        found,
        "H:\\PACS\\export\\" + study.file.replace("/", "\\"),
        f'Clinical question: "cough"; compared with earlier films.\n{found.replace("|", ", ")}.',
    )
    return list(cells)


def build(out: Path, *, people: int = 5_000, seed: int = SEED) -> int:
    """Write the export into `out`/data and the two filled-in files into `out`/answers.

    Returns:
        Number of pictures in the table; the files of about 1 % of them are not there.

    Raises:
        FileExistsError: There is an export already.
    """
    data, answers = out / "data", out / "answers"
    if data.exists():
        raise FileExistsError(f"{data} exists already; name another folder")
    for folder in (answers, *(data / "images" / name for name in SITES.values())):
        folder.mkdir(parents=True, exist_ok=True)
    (answers / "schema.yaml").write_text(SCHEMA.format(people=people), encoding="utf-8")
    (answers / "population.yaml").write_text(POPULATION.format(people=people), encoding="utf-8")
    pictures = 0
    with (data / "records.csv").open("w", encoding="cp1252", newline="") as file:
        table = csv.writer(file, delimiter=";")
        table.writerow(COLUMNS)
        for study in studies(people, seed):
            rng = np.random.default_rng([seed, study.person, 100 + study.number])
            table.writerow(record(study, rng))
            if rng.random() >= LOST:
                (data / "images" / study.file).write_bytes(picture(study, seed))
            pictures += 1
    return pictures


def main() -> None:
    """Run the command line of `python -m dagster_project.example.hospital`."""
    parser = argparse.ArgumentParser(description="Draws the hospital example.")
    parser.add_argument("out", type=Path, metavar="DST", help="folder to write")
    parser.add_argument("--people", type=int, default=5_000, help="number of people (default 5000)")
    parser.add_argument("--seed", type=int, default=SEED, help="another seed, other people")
    arguments = parser.parse_args()
    if arguments.people < 1 or arguments.seed < 0:
        parser.error("--people must be at least 1 and --seed at least 0")
    try:
        written = build(arguments.out, people=arguments.people, seed=arguments.seed)
    except FileExistsError as error:
        parser.exit(2, f"{error}\n")
    print(
        f"Drew {written} pictures of {arguments.people} people into {arguments.out}/data; "
        f"{arguments.out}/answers holds schema.yaml and population.yaml as they should become"
    )


if __name__ == "__main__":
    main()
