"""A small schema, a plan with every kind of event, and pairs, for the tests of a release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dagster_project.data.schema import Schema
from dagster_project.privacy import accounting
from dagster_project.privacy.events import (
    BoundedRange,
    DiscreteGaussian,
    Gaussian,
    PoissonSampledGaussian,
)
from dagster_project.privacy.plan import Plan, PlannedMechanism
from dagster_project.release.bundle import BundleWriter
from dagster_project.release.card import write_card

TOTAL, CHUNK = 25, 10
QUALITY = {
    "n_synthetic": TOTAL,
    "mean_tvd": 0.1,
    "mean_expected_tvd": 0.09,
    "cliques": [{"clique": ["weight"], "cells": 4, "tvd": 0.1, "expected_tvd": 0.09}],
}


def make_schema(**changes: Any) -> Schema:
    content: dict[str, Any] = {
        "name": "toy",
        "public": True,
        "person_id": "person",
        "n_public": 1000,
        "image": {"column": "image", "channels": 1, "height": 8, "width": 10},
        "attributes": {
            "kind of thing": {"kind": "categorical", "categories": ["a|b", "ü", "c"]},
            "weight": {
                "kind": "numeric",
                "edges": [0, 0.5, 2, 10],
                "missing": True,
                "out_of_domain": "clamp",
            },
        },
    }
    return Schema.from_dict({**content, **changes})


def make_plan(schema: Schema) -> Plan:
    events = {
        "table_model.selection": BoundedRange(epsilon=0.02, count=3),
        "table_model.measurement": DiscreteGaussian(sigma=15.0, count=5),
        "mean_pairs": Gaussian(noise_multiplier=12.0),
        "image_model": PoissonSampledGaussian(noise_multiplier=2.0, sample_rate=0.05, count=40),
    }
    mechanisms = tuple(
        PlannedMechanism(name=name, stage=name.split(".")[0], event=event, declared={"seen": 1})
        for name, event in events.items()
    )
    epsilon = accounting.epsilon(tuple(events.values()), target_delta=1e-5, discretization=1e-3)
    return Plan(
        release_id="toy-1",
        population="toy",
        data_version="md5-of-the-data",
        schema_hash=schema.hash,
        code_version="0123abcd",
        target_epsilon=3.0,
        target_delta=1e-5,
        n_public=schema.n_public,
        discretization=1e-3,
        mechanisms=mechanisms,
        composed_epsilon=epsilon,
        recipe={"rounds": 3},
    )


def make_chunk(schema: Schema, index: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Any pairs, the same for the same index."""
    rng = np.random.default_rng([5, index])
    spec = schema.image
    images = rng.integers(0, 256, (rows, spec.channels, spec.height, spec.width), dtype=np.uint8)
    codes = np.stack([rng.integers(0, size, rows) for size in schema.sizes], axis=1)
    return images, codes.astype(np.int16)


def write_missing(writer: BundleWriter, seed: int = 7) -> None:
    for index in writer.missing_chunks():
        images, codes = make_chunk(writer.schema, index, len(writer.rows(index)))
        writer.write_chunk(index, images, codes, np.random.default_rng([seed, index]))


def write_bundle(folder: Path, schema: Schema, manifest: dict[str, Any]) -> BundleWriter:
    writer = BundleWriter(folder, schema, TOTAL, CHUNK, parameters={"seed": 7})
    write_missing(writer)
    writer.finish(manifest, write_card(manifest, schema, QUALITY), QUALITY)
    return writer
