"""The private look at a data folder for its steward: what would train, and why the rest would not.

Findings quote records and counts, so the output is private. The look decides nothing: each finding
says whether it stops a release or follows the schema's policy. Reading for a release belongs to
`reading`, and the usual causes behind many findings to `causes`.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dagster_project.data import causes, image_causes, value_causes
from dagster_project.data.book import Book, row_list
from dagster_project.data.decoding import (
    image_bytes,
    image_column,
    image_pattern,
    image_place,
    images_of,
)
from dagster_project.data.image_faults import NOT_FOUND, UnusableImage
from dagster_project.data.layout import Layout, find_layout
from dagster_project.data.look import Fault, Look
from dagster_project.data.persons import canonical_id
from dagster_project.data.picture_sizes import picture_size
from dagster_project.data.rows import Batch, row_count, stream
from dagster_project.data.schema import Attribute, Schema, SchemaError
from dagster_project.data.schema_rules import read_yaml, schema_faults

_SIZED = 200  # pictures of which the size is looked at
_UNFOUND = 500  # names without a file for which a cause is looked for


def check(
    data_dir: str | Path,
    schema_path: str | Path,
    *,
    progress: Callable[[float, str], None] = lambda fraction, text: None,
) -> list[Fault]:
    """Return every fault of a schema and a data folder; never raise because of their content."""
    return look(data_dir, schema_path, examples=None, progress=progress).faults


def look(
    data_dir: str | Path,
    schema_path: str | Path,
    *,
    examples: int | None,
    progress: Callable[[float, str], None] = lambda fraction, text: None,
) -> Look:
    """Look at a schema and a data folder; never raise because of their content.

    Args:
        data_dir: The data folder.
        schema_path: Its schema.yaml.
        examples: Rows that are kept of each reason; None keeps all.
        progress: Called with the fraction done and a text.
    """
    name = Path(schema_path).name
    try:
        content = read_yaml(Path(schema_path))
    except SchemaError as error:
        return Look(stops=(Fault(name, str(error), stops=True),))
    if found := schema_faults(content):
        return Look(stops=tuple(Fault(name, text, stops=True) for text in found))
    schema = Schema.from_dict(content)
    layout, found = find_layout(data_dir, schema)
    if layout is None:
        name = Path(data_dir).name
        return Look(stops=tuple(Fault(name, text, stops=True) for text in found))
    files = [file for file in (layout.records, layout.heldout) if file is not None]
    book = Book(schema, examples)
    for i, file in enumerate(files):

        def report(done: float, start: float = i / len(files)) -> None:
            progress(start + done / len(files), "checking rows")

        try:
            _read(file, layout, book, report)
        except Exception as error:  # the steward needs a fault here, not a traceback
            text = f"cannot be read to the end ({type(error).__name__})."
            book.stops.append(Fault(file.name, text, stops=True))
    book.repeated(files[0].name)
    if layout.images is not None:
        unused = image_causes.unnamed(layout.images, book.named)
        note = image_causes.unnamed_note(layout.images, unused)
        book.notes += [Fault("images", note)] if note else []
        cause = image_causes.name_cause(
            layout.images, book.unfound, unused, schema.image, pattern=image_pattern(layout)
        )
        book.causes += [cause] if cause else []
    return book.closed()


def _read(file: Path, layout: Layout, book: Book, report: Callable[[float], None]) -> None:
    schema = book.schema
    columns = [schema.person_id, *schema.columns]
    columns += [schema.image.column] if layout.image_column else []
    broken: dict[str, list[int]] = defaultdict(list)
    seen = np.zeros_like(book.seen[0])
    done, rows = 0, row_count(file)
    for batch in stream(file, columns, schema):
        for i, row in batch.broken.items():
            broken[row.reason].append(batch.numbers[i])
        seen += _batch(file.name, batch, layout, book)
        done += len(batch)
        report(min(1.0, done / rows))
    book.rows += done
    for reason, some in broken.items():
        book.nobody += len(some)
        book.add(reason, _broken(file.name, reason, some), lost=True, rows=len(some))
    if file.suffix == ".csv":
        counts = {reason: len(some) for reason, some in broken.items()}
        book.causes += causes.line_causes(file, schema.table, counts, done)
    report(1.0)
    if done == 0:
        book.notes.append(Fault(file.name, "the table is empty."))
    for attribute, counts in zip(schema.attributes, seen, strict=True):
        if (counts > 0).sum() == 1:
            only = attribute.labels[int(counts.argmax())]
            text = f"{attribute.name} is {only!r} in every usable row and carries no information."
            book.notes.append(Fault(file.name, text))


def _batch(file: str, batch: Batch, layout: Layout, book: Book) -> np.ndarray:
    """Count the rows of a batch; return how often each cell of each attribute occurs."""
    schema, numbers = book.schema, batch.numbers
    sound = [i for i in range(len(batch)) if i not in batch.broken]
    whole = np.ones(len(sound), dtype=bool)
    people: list[str | None] = []
    for place, i in enumerate(sound):
        person = canonical_id(batch.columns[schema.person_id][i], schema.person_id_rule)
        people.append(person)
        if person is None:
            fault = Fault(file, "no person id; the row is dropped.", numbers[i])
            book.add("no person id", fault, lost=True)
            book.nobody += 1
            whole[place] = False
        else:
            book.persons[person].append((file, numbers[i]))
    cells = []
    for attribute in schema.attributes:
        column = pd.Series(batch.columns[attribute.column], dtype=object).iloc[sound]
        for place, reason, text, kept in _values(attribute, column, book.outside[attribute.name]):
            book.add(reason, Fault(file, text, numbers[sound[place]]), lost=not kept)
        if attribute.form in ("number", "integer"):
            texts = (text for text in column if isinstance(text, str) and attribute.decimal in text)
            book.fractions[attribute.name].update(
                value_causes.looks_grouped(text, attribute) for text in texts
            )
        codes, keep = attribute.encode(column)
        cells.append((codes, keep))
        whole &= keep
    for i in sound[: max(0, _SIZED - book.sizes.total())]:
        if sides := picture_size(image_bytes(batch, i, layout, schema)):
            book.sizes[sides] += 1
    if layout.images is not None:
        for place, i in enumerate(sound):
            name = str(Path(str(image_place(batch, i, layout, schema))))
            owner = people[place]
            book.named[name] |= {owner} if owner else set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place, image in enumerate(images_of(batch, layout, schema, sound)):
            if isinstance(image, UnusableImage):
                text = f"the image is unusable ({image}); the row is dropped."
                fault = Fault(file, text, numbers[sound[place]])
                book.add(f"image {image}", fault, lost=True)
                whole[place] = False
                if str(image) in NOT_FOUND and len(book.unfound) < _UNFOUND:
                    book.unfound.append(batch.columns[image_column(layout, schema)][sound[place]])
            else:
                book.pictures += 1
                book.shades[bool((image == 0).all() or (image == 255).all())] += 1
    book.whole += int(whole.sum())
    book.able |= {person for person, good in zip(people, whole, strict=True) if good and person}
    size = book.seen.shape[2]
    found = np.stack([np.bincount(codes[keep], minlength=size) for codes, keep in cells])
    book.seen[0] += found
    book.seen[1] += np.stack([np.bincount(codes[whole], minlength=size) for codes, _ in cells])
    return found


def _values(
    attribute: Attribute, column: pd.Series, outside: Counter[str]
) -> Iterator[tuple[int, str, str, bool]]:
    """Yield position, reason, description and fate of each value outside the attribute's domain.

    The labels of a column are absent or unknown together, so that only the first one counts.
    """
    if attribute.label > 0:
        return
    name, raw, (codes, keep) = (
        attribute.declared_name,
        attribute.raw_codes(column),
        attribute.encode(column),
    )
    thing = {"date": "a date", "age": "an age"}.get(attribute.form, "a number")
    absent = f"is absent or not {thing}" if attribute.kind == "numeric" else "is absent"
    for i in np.flatnonzero(raw < 0):
        cell, what = column.iloc[i], absent
        if raw[i] == -1 and attribute.missing:
            if attribute.states_absent(cell):
                continue
            what = f"is not {thing}"
        what = what if raw[i] == -1 else "is outside the domain"
        fate = f"it becomes {attribute.labels[codes[i]]!r}" if keep[i] else "the row is dropped"
        if isinstance(cell, str) and (cell in outside or len(outside) < 1000):
            outside[cell] += 1
        yield (
            int(i),
            f"{name} {what}",
            f"{name} {f'{cell!r:.60}'} {what}; {fate}.",
            bool(keep[i]),
        )


def _broken(file: str, reason: str, rows: Sequence[int]) -> Fault:
    where = f"{len(rows):,} rows, {row_list(rows)}; each" if len(rows) > 1 else "one row, which"
    return Fault(file, f"{reason}: {where} is dropped.", rows[0])
