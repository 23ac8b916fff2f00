"""Reading of private pairs: one usable pair for each person, training and held-out people apart.

A record that does not fit follows the schema's policy and is counted, privately. It never raises,
because an abort caused by one person's record would be an output that no budget paid for. Rows are
read one by one (`lines`, `rows`): a row added or removed changes the pairs of at most the person
whom it names, since everything below works on single rows or single people.

A file whose bytes are damaged after a valid header or footer is not a record that does not fit: no
record's values cause such bytes. Reading then ends with a sentence that is always the same,
whichever rows are affected, instead of leaving out a part of the file.

What can be found without records is in `layout`, the decoding of images in `decoding`, and the
steward's list of all faults in `check`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dagster_project.data.decoding import Decode, Pictures, decode_in_memory
from dagster_project.data.layout import Layout, column_faults, find_layout
from dagster_project.data.pairs import Pairs
from dagster_project.data.persons import HELDOUT_SHARE, canonical_id, is_held_out
from dagster_project.data.progress import Progress, silent
from dagster_project.data.rows import BATCH, Batch, row_count, stream
from dagster_project.data.schema import Schema

__all__ = ["Counts", "ReadingError", "column_faults", "read_pairs"]

Admit = Callable[[Sequence[str], Sequence[str]], np.ndarray]


class ReadingError(RuntimeError):
    """The data cannot be read at all; the message contains nothing of it."""


@dataclass(frozen=True)
class Counts:
    """What became of the rows. Private: these are exact counts.

    Attributes:
        rows: Rows read.
        train: Training pairs kept, one for each person.
        held_out: Held-out pairs kept.
        reasons: Number of rows dropped, or of values changed by policy, for each reason.
        values: People with a usable record and how many of them are kept, by attribute and value.
    """

    rows: int
    train: int
    held_out: int
    reasons: Mapping[str, int]
    values: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class _Records:
    """All rows of one file: canonical ids (N,) or None, codes and values (N, d), usable (N,)."""

    ids: np.ndarray
    codes: np.ndarray
    values: np.ndarray
    usable: np.ndarray


@dataclass(frozen=True)
class _Chosen:
    """The chosen rows (n,) of one file, and the codes and values (N, d) of all its rows."""

    file: Path
    rows: np.ndarray
    codes: np.ndarray
    values: np.ndarray


def read_pairs(
    data_dir: str | Path,
    schema: Schema,
    *,
    heldout_key: bytes | None,
    heldout_share: float = HELDOUT_SHARE,
    admit: Admit = lambda people, held_out: np.ones(len(people), dtype=bool),
    progress: Progress = silent,
    decode: Decode = decode_in_memory,
) -> tuple[Pairs, Pairs, Counts]:
    """Read a data folder into training and held-out pairs.

    Each person contributes one pair, chosen uniformly among their rows with a usable record by
    fresh randomness of the operating system. If the image of that row cannot be used, the person is
    left out. Rows without a person id are dropped. The held-out people are those of heldout.parquet
    or, without that file, those selected by a keyed hash of the id: the same people in every
    version of the data. They are never used for training, even if they are in both files.

    Args:
        data_dir: The data folder, in one of the layouts of `layout`.
        schema: The public contract.
        heldout_key: Key of the hash, at least 16 bytes; None holds nobody out unless there is a
            heldout.parquet.
        heldout_share: Expected fraction of held-out people, in [0, 1); public.
        admit: Called with the canonical ids of the training and of the held-out people; returns a
            mask over the former, True for those whose budget pays for training.
        progress: Called with the fraction done; its text contains nothing private.
        decode: Decodes the images of the people who are admitted.

    Returns:
        (train, held_out, counts); both may be empty.

    Raises:
        ReadingError: A fault is found without reading a record, or a file ends early.
    """
    if not 0 <= heldout_share < 1:
        raise ValueError("heldout_share must be at least 0 and below 1.")
    if heldout_key is not None and len(heldout_key) < 16:
        raise ValueError("heldout_key must have at least 16 bytes.")
    layout, faults = find_layout(data_dir, schema)
    if layout is None:
        raise ReadingError(faults[0])
    try:
        return _read(layout, schema, heldout_key, heldout_share, admit, progress, decode)
    except (OSError, pa.ArrowException):
        raise cut_short() from None  # it may quote a record; the steward has `check`


def cut_short() -> ReadingError:
    """Return the error for files that are damaged, the same wherever they are."""
    return ReadingError("The data files cannot be read to the end.")


def encode_records(batch: Batch, schema: Schema, reasons: Counter[str]) -> _Records:
    """Encode one batch of rows as cells and values by the schema's policy; update `reasons`."""
    rule, sound = schema.person_id_rule, batch.sound
    values_of = batch.columns
    ids = np.array(
        [canonical_id(value, rule) for value in values_of[schema.person_id]], dtype=object
    )
    usable = sound & np.array([person is not None for person in ids], dtype=bool)
    reasons.update(f"{row.reason}: row dropped" for row in batch.broken.values())
    reasons["row without a person id"] += int((sound & ~usable).sum())
    codes = np.zeros((len(ids), len(schema.attributes)), dtype=np.int16)
    values = np.zeros(codes.shape, dtype=np.float32)
    for i, attribute in enumerate(schema.attributes):
        column = pd.Series(values_of[attribute.column], dtype=object)
        codes[:, i], keep = attribute.encode(column)
        values[:, i] = attribute.values(column)
        usable &= keep
        if attribute.label == 0:  # the labels of a column are absent or unknown together
            changed = sound & keep & (attribute.raw_codes(column) < -attribute.missing)
            reasons[f"{attribute.declared_name}: row dropped"] += int((sound & ~keep).sum())
            reasons[f"{attribute.declared_name}: value changed"] += int(changed.sum())
    return _Records(ids, codes, values, usable)


def _read(
    layout: Layout,
    schema: Schema,
    key: bytes | None,
    share: float,
    admit: Admit,
    progress: Progress,
    decode: Decode,
) -> tuple[Pairs, Pairs, Counts]:
    reasons: Counter[str] = Counter()
    # From here on the ids, which take most of the memory, are no longer held.
    chosen = _choose(layout, schema, key, share, admit, progress, reasons)
    parts = []
    tally = np.zeros((2, len(schema.attributes), max(schema.sizes)), dtype=np.int64)
    for group, start, end in zip(chosen, (0.1, 0.8), (0.8, 1.0), strict=True):

        def told(done: float, start: float = start, end: float = end) -> None:
            progress(start + (end - start) * done, "decoding images")

        pictures = Pictures(group.file, layout, schema, group.rows, 0, len(group.codes))
        images, kept = np.empty(pictures.shape, np.uint8), group.rows
        if len(group.rows):  # without anybody, the file is not read again
            images, kept, why = decode(pictures, told)
            reasons.update(why)
        parts.append(Pairs(images, group.codes[kept], group.values[kept]))
        tally += np.stack([_tally(group.codes[some], schema) for some in (group.rows, kept)])
    progress(1.0, "pairs read")
    train, held_out = parts
    values = {
        f"{attribute.name} {label}": (int(tally[0, i, j]), int(tally[1, i, j]))
        for i, attribute in enumerate(schema.attributes)
        for j, label in enumerate(attribute.labels)
    }
    rows = sum({group.file: len(group.codes) for group in chosen}.values())
    counts = Counts(
        rows, len(train), len(held_out), {k: n for k, n in reasons.items() if n}, values
    )
    return train, held_out, counts


def _choose(
    layout: Layout,
    schema: Schema,
    key: bytes | None,
    share: float,
    admit: Admit,
    progress: Progress,
    reasons: Counter[str],
) -> tuple[_Chosen, _Chosen]:
    """Read all records and have the people admitted; return one row of each person.

    Returns:
        The training and the held-out people's rows.
    """
    records = _records(layout.records, schema, reasons, progress)
    chosen = _one_row_each(records, reasons)
    persons = records.ids[chosen]
    if layout.heldout is not None:
        held_file, held_records = layout.heldout, _records(layout.heldout, schema, reasons)
        held_persons = set(held_records.ids)
        held = np.fromiter((p in held_persons for p in persons), bool, len(persons))
        held_rows = _one_row_each(held_records, reasons)
        reasons["person also held out: row dropped"] += int(held.sum())
    else:
        held_file, held_records = layout.records, records
        held = np.fromiter(
            (key is not None and is_held_out(p, key=key, share=share) for p in persons),
            bool,
            len(persons),
        )
        held_rows = chosen[held]
    train_rows = chosen[~held]
    admitted = admit(list(records.ids[train_rows]), list(held_records.ids[held_rows]))
    reasons["person outside the release's cohorts: row dropped"] += int((~admitted).sum())
    return (
        _Chosen(layout.records, train_rows[admitted], records.codes, records.values),
        _Chosen(held_file, held_rows, held_records.codes, held_records.values),
    )


def _tally(codes: np.ndarray, schema: Schema) -> np.ndarray:
    """Count each cell of each attribute (d, largest size)."""
    size = max(schema.sizes)
    return np.stack([np.bincount(column, minlength=size) for column in codes.T])


def _records(
    file: Path,
    schema: Schema,
    reasons: Counter[str],
    progress: Progress = silent,
) -> _Records:
    columns = [schema.person_id, *schema.columns]
    rows = row_count(file)
    batches: list[_Records] = []
    for batch in stream(file, columns, schema):
        progress(0.1 * min(1.0, len(batches) * BATCH / rows), "reading records")
        batches.append(encode_records(batch, schema, reasons))
    empty = Batch((), {name: [] for name in columns}, {})
    batches = batches or [encode_records(empty, schema, reasons)]
    return _Records(
        *(np.concatenate([getattr(batch, part) for batch in batches]) for part in vars(batches[0]))
    )


def _one_row_each(records: _Records, reasons: Counter[str]) -> np.ndarray:
    """Choose one usable row of each person uniformly, in file order."""
    rows = np.flatnonzero(records.usable)
    person = pd.factorize(records.ids[rows])[0]
    order = np.lexsort((np.frombuffer(os.urandom(8 * len(rows)), np.uint64), person))
    first = np.diff(person[order], prepend=-1) != 0
    reasons["another row of the same person was chosen"] += int((~first).sum())
    return np.sort(rows[order[first]])
