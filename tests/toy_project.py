"""A whole project on 300 drawn people: population, schema, records and pictures.

Some records hold secrets: strings and numbers that must never be seen outside the private zone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import absl.logging
import dagster as dg
import numpy as np
from PIL import Image

from dagster_project.orchestration.definitions import build_definitions

# Dagster closes the stream of this handler, which would be pytest's own.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

PEOPLE = 300
N_PUBLIC = 320  # not PEOPLE, so that taking one for the other shows
TOKEN = "zqxsecret"  # in every person id and in a value outside its domain
ODD_NUMBER = "31415926.535"  # the weight of one person, outside the public bounds

POPULATION = """\
population: toys
unit: person
relation: add_remove
lifetime_epsilon: 12.0
target_delta: 1.0e-4
n_public: 320
ledger: ledger/ledger.sqlite
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

# Every stage runs as it does at full size, only shorter.
SETTINGS: dict[str, Any] = {
    "table.rounds": 2,
    "table.iterations": 30,
    "table.final_iterations": 60,
    "mean_pairs.frequencies": 30,
    "mean_pairs.side": 6,
    "image_generator.steps": 15,
    "image_generator.perceptual_steps": 2,
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
PAIRS, SEED = 60, 3


def write_project(root: Path, **schema_changes: str) -> Path:
    """population.yaml and data/ in `root`; `schema_changes` replace text in schema.yaml."""
    data = root / "data"
    (data / "images").mkdir(parents=True)
    (root / "population.yaml").write_text(POPULATION)
    schema = SCHEMA
    for old, new in schema_changes.items():
        assert old in schema
        schema = schema.replace(old, new)
    (data / "schema.yaml").write_text(schema)
    rng = np.random.default_rng(5)
    lines = ["person,image,shape,bright,weight"]
    for i in range(PEOPLE):
        shape, bright = int(rng.integers(3)), int(rng.integers(2))
        weight = f"{rng.uniform(0, 4):.3f}" if i % 9 else ""
        name = ("bar", "disc", "cross")[shape]
        if i == 7:
            name = f"{TOKEN}-category"
        if i == 8:
            weight = ODD_NUMBER
        lines.append(f"{TOKEN}-{i},{i}.png,{name},{('no', 'yes')[bright]},{weight}")
        Image.fromarray(image(shape, bright, rng)).save(data / "images" / f"{i}.png")
    (data / "records.csv").write_text("\n".join(lines) + "\n")
    return root


def image(shape: int, bright: int, rng: np.random.Generator) -> np.ndarray:
    """A 12 x 12 bar, disc or cross, dark or bright."""
    y, x = np.mgrid[:12, :12] - 5.5
    mask = (abs(y) < 2, x**2 + y**2 < 16, (abs(y) < 1) | (abs(x) < 1))[shape]
    grey = mask * (110 + 100 * bright) + rng.normal(0, 8, (12, 12)) + 20
    return grey.clip(0, 255).astype(np.uint8)


def run_config(
    root: Path, *, settings: dict[str, Any] | None = None, **plan: Any
) -> dict[str, Any]:
    """Run configuration of the `release` job."""
    asked = {"name": "first", "epsilon": 5.0, "delta": 1e-4, **plan}
    asked["settings"] = SETTINGS | (settings or {})
    return {
        "ops": {
            "privacy_plan": {"config": asked},
            "synthetic_release": {"config": {"n": PAIRS, "seed": SEED}},
            "fidelity_report": {"config": {"extractor": "pixels"}},
        },
        "resources": {"budget": {"config": {"root": str(root), "approved_by": "a tester"}}},
    }


def materialise(
    root: Path, *, assets: Sequence[str] | None = None, **changes: Any
) -> dg.ExecuteInProcessResult:
    """Runs the graph, or some assets of it, in this process, with its Dagster instance in
    `root`/.dagster."""
    home = root / ".dagster"
    home.mkdir(exist_ok=True)
    job = build_definitions(root).resolve_job_def("release")
    selection = [dg.AssetKey(name) for name in assets] if assets else None
    config = run_config(root, **changes)
    if assets:
        config["ops"] = {k: v for k, v in config["ops"].items() if k in assets}
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        return job.execute_in_process(
            config, instance=instance, raise_on_error=False, asset_selection=selection
        )


@contextlib.contextmanager
def captured(file: Path) -> Iterator[None]:
    """Everything the process prints, by Python or below it, added to a file."""
    # Never closed: logging keeps the stream it was set up with.
    text = io.StringIO()
    with file.open("ab") as sink:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield
        finally:
            for place, old in zip((1, 2), kept, strict=True):
                os.dup2(old, place)
                os.close(old)
            sink.write(text.getvalue().encode())


def files_below(root: Path, *, but: tuple[str, ...] = (".dagster",)) -> set[str]:
    """Relative paths of all files, without those in the folders named in `but`."""
    paths = (p.relative_to(root) for p in root.rglob("*") if p.is_file())
    return {p.as_posix() for p in paths if p.parts[0] not in but}


def settings_arguments(**more: Any) -> list[str]:
    """The settings as arguments of the command line."""
    pairs = {**SETTINGS, **more}
    return [a for k, v in pairs.items() for a in ("--set", f"{k}={json.dumps(v)}")]
