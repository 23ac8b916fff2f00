"""Synthetic toy project with everything a real project has, and with planted secrets.

It is so small that the whole graph runs on it in seconds; every stage works as at full size.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin

# Prefix of every planted text, so that one search finds them all.
SECRET = "ZQX7secret"
PEOPLE, N_PUBLIC, SIDE = 400, 320, 12  # n_public is approximate, never exact
EPSILON, DELTA, PAIRS = 4.0, 1e-4, 40

POPULATION = """\
population: toys
unit: person
relation: add_remove
lifetime_epsilon: {lifetime}
target_delta: 1.0e-4
n_public: 320
anchor: null
"""

SCHEMA = """\
name: toys
public: false
person_id: person
n_public: 320
image: {column: image, channels: 1, height: 12, width: 12}
attributes:
  shape: {kind: categorical, categories: [bar, disc, cross], out_of_domain: "fallback:bar"}
  bright: {kind: categorical, categories: ["no", "yes"], out_of_domain: drop}
  weight: {kind: numeric, edges: [0, 1, 2, 4], missing: true, out_of_domain: clamp}
"""
SHAPES, BRIGHT = ("bar", "disc", "cross"), ("no", "yes")

# Every stage runs as at full size, but for fewer steps.
SETTINGS: dict[str, Any] = {
    "table.rounds": 2,
    "table.iterations": 30,
    "table.final_iterations": 60,
    "mean_pairs.frequencies": 30,
    "mean_pairs.side": 6,
    "image_generator.steps": 15,
    "image_generator.perceptual_steps": 2,
    "image_generator.perceptual_batch": 16,
    "image_generator.batch": 50,
    "image_generator.hidden": 32,
    "pretraining.steps": 6,
    "pretraining.images": 128,
    "pretraining.batch": 32,
    "pretraining.mean_pairs": 4,
    "network.channels": [8, 16],
    "network.token_size": 16,
    "network.heads": 2,
    "dp_sgd.steps": 4,
    "dp_sgd.batch": 32,
    "dp_sgd.checkpoint_steps": 2,
    "sampler.steps": 3,
    "sampler.chunk": 20,
}


def write_project(root: Path, *, lifetime: float = 12.0, seed: int = 0) -> int:
    """Write population.yaml and data/ to `root` and return the number of planted secrets (1,000).

    Each person's id is a secret and the text in their image is another; every second shape is a
    third, outside its domain.
    """
    data = root / "data"
    data.mkdir(parents=True)
    (root / "population.yaml").write_text(POPULATION.format(lifetime=lifetime))
    (data / "schema.yaml").write_text(SCHEMA)
    pq.write_table(pa.table(columns(PEOPLE, seed=seed)), data / "train.parquet")
    return 2 * PEOPLE + PEOPLE // 2


def columns(people: int, *, seed: int = 0) -> dict[str, list[Any]]:
    """Return random records by column."""
    rng = np.random.default_rng(seed)
    table: dict[str, list[Any]] = {
        name: [] for name in ("person", "image", "shape", "bright", "weight")
    }
    for i in range(people):
        kind, lit = int(rng.integers(3)), int(rng.integers(2))
        table["person"].append(f"{SECRET}-person-{i}")
        # The padding makes the file larger than the 64 KiB read for the columns in its footer.
        note = f"{SECRET}-picture-{i} {rng.bytes(400).hex()}"
        table["image"].append(encode(draw(kind, lit, rng), text=note))
        table["shape"].append(SHAPES[kind] if i % 2 else f"{SECRET}-shape-{i}")
        table["bright"].append(BRIGHT[lit])
        table["weight"].append(float(rng.uniform(0, 4)))
    return table


def draw(kind: int, lit: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a bar, disc or cross with independent noise, uint8 (SIDE, SIDE)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    mask = (abs(y) < 2, x**2 + y**2 < 16, (abs(y) < 1) | (abs(x) < 1))[kind]
    grey = mask * (110 + 100 * lit) + rng.normal(0, 8, (SIDE, SIDE)) + 20
    return grey.clip(0, 255).astype(np.uint8)


def encode(image: np.ndarray, *, text: str = "") -> bytes:
    """Encode a PNG, with a text chunk if `text` is given."""
    stream, notes = io.BytesIO(), PngImagePlugin.PngInfo()
    if text:
        notes.add_text("comment", text)
    Image.fromarray(image).save(stream, "PNG", pnginfo=notes)
    return stream.getvalue()


def release_command(root: Path) -> list[str]:
    """Return the command that makes a release of the project in `root`."""
    settings = [part for k, v in SETTINGS.items() for part in ("--set", f"{k}={json.dumps(v)}")]
    numbers = {"--epsilon": EPSILON, "--delta": DELTA, "--n": PAIRS, "--extractor": "pixels"}
    options = [str(part) for pair in numbers.items() for part in pair]
    places = ["--root", str(root), "--data", str(root / "data"), "--approved-by", "audit"]
    command = [sys.executable, "-m", "dagster_project.cli", "release", "--json"]
    return [*command, *places, *options, *settings]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the project and capture its output."""
    cwd = Path(__file__).parents[2]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, errors="replace")
