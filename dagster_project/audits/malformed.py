"""Audit of malformed inputs: can one cause a traceback, write a byte or spend anything?

Random damage turns a sound schema, records, images and population file into variants, which are
given to everything that reads them. Each must end in a result or in a declared error, and leave
the folder unchanged.
"""

from __future__ import annotations

import copy
import math
import random
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dagster_project.audits import toys
from dagster_project.audits.finding import Finding
from dagster_project.data.check import check
from dagster_project.data.layout import column_faults
from dagster_project.data.reading import ReadingError, read_pairs
from dagster_project.data.schema import Schema, SchemaError
from dagster_project.ledger.population import Population, PopulationError

# Errors that answer in one sentence; any other error is a bug in the program.
DECLARED = (SchemaError, ReadingError, PopulationError)
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 1e308, math.nan, math.inf, -math.inf, "", " ", "\x00", "é" * 300,
    "../../etc/passwd", "=1+1", "NaN", "1e-6", [], [[]], {}, {"a": {}}, b"\xff\xfe", "{{7*7}}",
)  # fmt: skip
PEOPLE = 6


def damaged_bytes(content: bytes, coin: random.Random) -> bytes:
    """Return the bytes truncated, partly changed, with insertions or deletions, or replaced."""
    kind = coin.randrange(5)
    if kind == 0:
        return content[: coin.randrange(len(content) + 1)]
    if kind == 1:
        return coin.randbytes(coin.randrange(400))
    changed = bytearray(content)
    for _ in range(coin.randrange(1, 12)):
        place = coin.randrange(len(changed))
        if kind == 2:
            changed[place] = coin.randrange(256)
        elif kind == 3:
            changed[place:place] = coin.randbytes(coin.randrange(1, 9))
        else:
            del changed[place : place + coin.randrange(1, 9)]
            changed = changed or bytearray(b"x")
    return bytes(changed)


def damaged_mapping(content: Any, coin: random.Random) -> Any:
    """Return a copy with one entry at any depth replaced, removed, renamed or duplicated."""
    content = copy.deepcopy(content)
    place = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return coin.choice(ODD)
        key = coin.choice(keys)
        deeper = place[key]
        if isinstance(deeper, dict | list) and deeper and coin.random() < 0.7:
            place = deeper
            continue
        kind = coin.randrange(4)
        if kind == 0:
            place[key] = coin.choice(ODD)
        elif kind == 1:
            del place[key]
        elif isinstance(place, dict):
            place[coin.choice(("extra", 7, None, "name"))] = place[key] if kind == 2 else None
        else:
            place.append(coin.choice([*place, *ODD]))
        return content


def schema_variant(data: Path, coin: random.Random) -> None:
    """Write a damaged schema.yaml beside sound records."""
    _sound(data)
    target = data / "schema.yaml"
    if coin.random() < 0.4:
        target.write_bytes(damaged_bytes(target.read_bytes(), coin))
    else:
        target.write_text(yaml.safe_dump(damaged_mapping(yaml.safe_load(toys.SCHEMA), coin)))


def records_variant(data: Path, coin: random.Random) -> None:
    """Write damaged records: odd values, columns of other types, a broken file or broken CSV."""
    _sound(data)
    table, kind = toys.columns(PEOPLE), coin.randrange(5)
    file = data / "train.parquet"
    if kind == 0:
        file.write_bytes(damaged_bytes(file.read_bytes(), coin))
        return
    if kind == 1:
        file.unlink()
        rows = ["person,shape,bright,weight"]
        rows += [f"p{i},bar,no,{coin.choice((1.5, *ODD))}" for i in range(PEOPLE)]
        text = "\n".join(rows).encode("utf-8", "surrogateescape")
        (data / "records.csv").write_bytes(damaged_bytes(text, coin))
        if coin.random() < 0.8:
            (data / "images").mkdir()
            for i in range(PEOPLE):
                (data / "images" / f"p{i}.png").write_bytes(table["image"][i])
        return
    if kind == 2:
        name = coin.choice(list(table))
        coin.choice((table.pop, lambda key: table.update({f"{key} ": table[key]})))(name)
    else:
        for _ in range(coin.randrange(1, 9)):
            name = coin.choice([name for name in table if name != "image"])
            table[name][coin.randrange(PEOPLE)] = coin.choice(ODD)
    arrays = {name: _array(values) for name, values in table.items()}
    pq.write_table(pa.table(arrays), file)


def images_variant(data: Path, coin: random.Random) -> None:
    """Write sound records with damaged images."""
    _sound(data)
    table = toys.columns(PEOPLE)
    for i in range(PEOPLE):
        if coin.random() < 0.7:
            table["image"][i] = damaged_bytes(table["image"][i], coin)
    pq.write_table(pa.table(table), data / "train.parquet")


def population_variant(data: Path, coin: random.Random) -> None:
    """Write a damaged population.yaml above sound data."""
    _sound(data)
    target = data.parent / "population.yaml"
    if coin.random() < 0.5:
        target.write_bytes(damaged_bytes(target.read_bytes(), coin))
    else:
        sound = yaml.safe_load(target.read_text())
        target.write_text(yaml.safe_dump(damaged_mapping(sound, coin)))


VARIANTS: dict[str, Callable[[Path, random.Random], None]] = {
    "schemas": schema_variant,
    "records": records_variant,
    "images": images_variant,
    "population files": population_variant,
}


def _sound(data: Path) -> None:
    data.mkdir(parents=True)
    (data.parent / "population.yaml").write_text(toys.POPULATION.format(lifetime=5.0))
    (data / "schema.yaml").write_text(toys.SCHEMA)
    pq.write_table(pa.table(toys.columns(PEOPLE)), data / "train.parquet")


def _array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        # Values of several types, as a careless export would write them.
        return pa.array([None if item is None else str(item) for item in values])


def read_everything(data: Path) -> None:
    """Run everything that reads a data folder and its population file."""
    for fault in check(data, data / "schema.yaml"):
        str(fault)
    Population.load(data.parent / "population.yaml")
    schema = Schema.from_file(data / "schema.yaml")
    column_faults(data, schema)
    read_pairs(data, schema, heldout_key=bytes(16))


def failures(
    *, inputs: int, read: Callable[[Path], None] = read_everything, seed: int = 0
) -> tuple[int, int, list[str]]:
    """Try generated inputs.

    Returns:
        The number refused by a declared error, the number that changed a file, and the last line
        of every traceback.
    """
    coin, refused, written, traces = random.Random(seed), 0, 0, []
    kinds = list(VARIANTS.values())
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(inputs):
            data = Path(scratch) / str(number) / "data"
            kinds[number % len(kinds)](data, coin)
            before = _content(data.parent)
            try:
                read(data)
            except DECLARED:
                refused += 1
            except Exception as error:
                traces.append("".join(traceback.format_exception_only(error)).strip())
            written += _content(data.parent) != before
    return refused, written, traces


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def audit_malformed(*, inputs: int) -> Finding:
    """Audit inputs of all kinds in turn."""
    refused, written, traces = failures(inputs=inputs)
    shown = f" (the first: {traces[0]:.80})" if traces else ""
    return Finding(
        name="malformed inputs",
        measured=(
            f"{len(traces)} tracebacks{shown}, {written} wrote or spent; {refused} refused in a "
            f"sentence, {inputs - refused - len(traces)} read by the schema's policy"
        ),
        expected="0 tracebacks, 0 wrote or spent",
        holds=not traces and not written and refused > 0,
        size=f"{inputs} of {', '.join(VARIANTS)}",
    )
