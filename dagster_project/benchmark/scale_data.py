"""Drawn data of any size for `scale`: public shapes of 32 x 32 with records, in one Parquet file.

A few thousand drawings serve all people, since the cost of reading, decoding and learning does not
depend on how many pictures are alike; each person has a record of their own.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dagster_project.data.schema import Schema
from dagster_project.public_data.procedural_pool import CLASSES, draw_pool

DRAWINGS, BATCH = 2000, 10_000
_LEVELS = ("very low", "low", "medium", "high", "very high")
_SCHEMA = """\
name: drawn-shapes
public: true
person_id: person
n_public: {people}
image: {{column: image, channels: 1, height: 32, width: 32}}
attributes:
  shape: {{kind: categorical, categories: [{shapes}]}}
  brightness: {{kind: categorical, categories: [{levels}]}}
  contrast: {{kind: categorical, categories: [{levels}]}}
  site: {{kind: categorical, categories: [north, east, south, west]}}
  visit: {{kind: categorical, categories: [first, later]}}
  age: {{kind: numeric, edges: [0, 20, 40, 60, 80, 100], out_of_domain: clamp}}
  weight: {{kind: numeric, edges: [0, 50, 60, 70, 80, 90, 200], out_of_domain: clamp}}
  score: {{kind: numeric, edges: [0, 0.25, 0.5, 0.75, 1], out_of_domain: clamp, missing: true}}
"""


def write(folder: Path, people: int) -> Schema:
    """Write schema.yaml and train.parquet with one row for each person; the bytes are reproducible.

    Args:
        folder: A folder that does not exist yet.
        people: Number of people.

    Returns:
        The schema.
    """
    folder.mkdir(parents=True)
    text = _SCHEMA.format(people=people, shapes=", ".join(CLASSES), levels=", ".join(_LEVELS))
    (folder / "schema.yaml").write_text(text)
    schema, rng = Schema.from_file(folder / "schema.yaml"), np.random.default_rng(0)
    pool = draw_pool(DRAWINGS, schema.image, rng=rng)
    files = np.array([_png(image[0]) for image in pool.images], dtype=object)
    light = pool.images.reshape(DRAWINGS, -1)
    seen = {
        "shape": np.array(pool.names, dtype=object)[pool.labels],
        "brightness": _level(light.mean(axis=1)),
        "contrast": _level(light.std(axis=1)),
    }
    writer = None
    for start in range(0, people, BATCH):
        size = min(BATCH, people - start)
        drawn = rng.integers(DRAWINGS, size=size)
        columns: dict[str, object] = {
            "person": [f"p{number:09d}" for number in range(start, start + size)],
            "image": pa.array(files[drawn], pa.binary()),
        }
        columns |= {name: values[drawn] for name, values in seen.items()}
        columns |= _rest(drawn, rng)
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(folder / "train.parquet", table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return schema


def _rest(drawn: np.ndarray, rng: np.random.Generator) -> dict[str, object]:
    """Return the attributes that cannot be seen; some depend on the drawing, and on each other."""
    size = len(drawn)
    age = (rng.integers(0, 70, size) + drawn % 30).astype(np.float64)
    score = rng.beta(1 + drawn % 3, 2, size)
    return {
        "site": np.array(["north", "east", "south", "west"])[
            (drawn + rng.integers(0, 2, size)) % 4
        ],
        "visit": np.array(["first", "later"])[(rng.random(size) < age / 120).astype(int)],
        "age": age,
        "weight": 45 + 0.4 * age + rng.normal(0, 10, size),
        "score": np.where(rng.random(size) < 0.05, np.nan, score),
    }


def _level(values: np.ndarray) -> np.ndarray:
    """Return five levels of equal numbers of drawings."""
    rank = values.argsort().argsort()
    return np.array(_LEVELS, dtype=object)[rank * len(_LEVELS) // len(values)]


def _png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
