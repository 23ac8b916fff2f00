"""The private check of a data folder for its steward: all faults, before anything is spent.

Faults quote records and counts, so the output is private. The check decides nothing: each fault
says whether it stops a release or follows the schema's policy. Reading for a release belongs to
`reading`.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dagster_project.data.images import UnusableImage
from dagster_project.data.layout import Layout, find_layout
from dagster_project.data.persons import canonical_id
from dagster_project.data.reading import image_place, images_of
from dagster_project.data.rows import row_count, stream
from dagster_project.data.schema import Attribute, Schema, SchemaError
from dagster_project.data.schema_rules import read_yaml, schema_faults


@dataclass(frozen=True)
class Fault:
    """One fault. Private.

    Attributes:
        file: Name of the file.
        text: What is wrong, and what a release will do about it.
        row: Number of the (first) row, counted from 1 at the first record. Empty lines of a CSV
            file count, so that row r is line r + 1. None if the fault has no row.
        stops: Whether a release is refused; otherwise the schema's policy is followed.
    """

    file: str
    text: str
    row: int | None = None
    stops: bool = False

    def __str__(self) -> str:
        where = self.file if self.row is None else f"{self.file}, row {self.row}"
        return f"{'stops' if self.stops else 'note '}  {where}: {self.text}"


def check(
    data_dir: str | Path,
    schema_path: str | Path,
    *,
    progress: Callable[[float, str], None] = lambda fraction, text: None,
) -> list[Fault]:
    """Return every fault of a schema and a data folder; never raise because of their content."""
    schema_name = Path(schema_path).name
    try:
        content = read_yaml(Path(schema_path))
    except SchemaError as error:
        return [Fault(schema_name, str(error), stops=True)]
    if found := schema_faults(content):
        return [Fault(schema_name, text, stops=True) for text in found]
    schema = Schema.from_dict(content)
    layout, found = find_layout(data_dir, schema)
    if layout is None:
        return [Fault(Path(data_dir).name, text, stops=True) for text in found]
    files = [file for file in (layout.records, layout.heldout) if file is not None]
    faults: list[Fault] = []
    persons: dict[str, list[tuple[str, int]]] = defaultdict(list)
    named: set[str] = set()
    for i, file in enumerate(files):

        def report(done: float, start: float = i / len(files)) -> None:
            progress(start + done / len(files), "checking rows")

        try:
            faults += _file(file, layout, schema, persons, named, report)
        except Exception as error:  # the steward needs a fault here, not a traceback
            text = f"cannot be read to the end ({type(error).__name__})."
            faults.append(Fault(file.name, text, stops=True))
    return faults + _repeated(persons, files[0].name) + _unused(layout, named)


def _file(
    file: Path,
    layout: Layout,
    schema: Schema,
    persons: dict[str, list[tuple[str, int]]],
    named: set[str],
    report: Callable[[float], None],
) -> list[Fault]:
    faults: list[Fault] = []
    seen = np.zeros((len(schema.attributes), max(schema.sizes)), dtype=np.int64)
    columns = [schema.person_id, *schema.columns]
    columns += [schema.image.column] if layout.image_column else []
    broken: dict[str, list[int]] = defaultdict(list)
    done, rows = 0, row_count(file)
    for batch in stream(file, columns, schema):
        numbers = batch.numbers
        for i, row in batch.broken.items():
            broken[row.reason].append(numbers[i])
        sound = [i for i in range(len(batch)) if i not in batch.broken]
        for i in sound:
            person = canonical_id(batch.columns[schema.person_id][i], schema.person_id_rule)
            if person is None:
                faults.append(Fault(file.name, "no person id; the row is dropped.", numbers[i]))
            else:
                persons[person].append((file.name, numbers[i]))
        for place, attribute in enumerate(schema.attributes):
            column = pd.Series(batch.columns[attribute.column], dtype=object).iloc[sound]
            for i, text in _values(attribute, column):
                faults.append(Fault(file.name, text, numbers[sound[i]]))
            codes, keep = attribute.encode(column)
            seen[place] += np.bincount(codes[keep], minlength=seen.shape[1])
        if layout.images is not None:
            places = (image_place(batch, i, layout, schema) for i in sound)
            named |= {str(Path(str(place))) for place in places}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i, image in zip(sound, images_of(batch, layout, schema, sound), strict=True):
                if isinstance(image, UnusableImage):
                    text = f"the image is unusable ({image}); the row is dropped."
                    faults.append(Fault(file.name, text, numbers[i]))
        done += len(batch)
        report(min(1.0, done / rows))
    faults += [_broken(file.name, reason, some) for reason, some in broken.items()]
    report(1.0)
    if done == 0:
        return [Fault(file.name, "the table is empty.")]
    for attribute, counts in zip(schema.attributes, seen, strict=True):
        if (counts > 0).sum() == 1:
            only = attribute.labels[int(counts.argmax())]
            text = f"{attribute.name} is {only!r} in every usable row and carries no information."
            faults.append(Fault(file.name, text))
    return sorted(faults, key=lambda fault: (fault.row is None, fault.row or 0))


def _values(attribute: Attribute, column: pd.Series) -> list[tuple[int, str]]:
    """Return the position and description of every value outside the attribute's domain."""
    raw, (codes, keep) = attribute.raw_codes(column), attribute.encode(column)
    faults = []
    for i in np.flatnonzero(raw < -int(attribute.missing)):
        value = f"{column.iloc[i]!r:.60}"
        what = "is absent or not a number" if attribute.kind == "numeric" else "is absent"
        what = what if raw[i] == -1 else "is outside the domain"
        fate = f"it becomes {attribute.labels[codes[i]]!r}" if keep[i] else "the row is dropped"
        faults.append((int(i), f"{attribute.name} {value} {what}; {fate}."))
    return faults


def _broken(file: str, reason: str, rows: list[int]) -> Fault:
    where = f"{len(rows)} rows, {_list(rows)}; each" if len(rows) > 1 else "one row, which"
    return Fault(file, f"{reason}: {where} is dropped.", rows[0])


def _repeated(persons: dict[str, list[tuple[str, int]]], training: str) -> list[Fault]:
    faults = []
    for person, places in persons.items():
        rows = [row for name, row in places if name == training]
        held_out = [row for name, row in places if name != training]
        for name, many in ((training, rows), ("heldout.parquet", held_out)):
            if len(many) > 1:
                text = f"{person!r:.60} is in rows {_list(many)}; one is chosen at random."
                faults.append(Fault(name, text, many[0]))
        if rows and held_out:
            text = f"{person!r:.60} is also in heldout.parquet and is not used for training."
            faults.append(Fault(training, text, rows[0]))
    return faults


def _list(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:10]))
    return shown + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")


def _unused(layout: Layout, named: set[str]) -> list[Fault]:
    """Return a fault for each image in the folder that no row names."""
    if layout.images is None:
        return []
    lying = (path for path in sorted(layout.images.rglob("*")) if not path.is_dir())
    names = (str(path.relative_to(layout.images)) for path in lying)
    return [
        Fault("images", f"no row names the image {name!r:.80}.")
        for name in names
        if name not in named
    ]
