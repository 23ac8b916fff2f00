"""Compares a release with the real data. Private: none of its results is differentially private.

It reads the real pairs again, so its files stay in `private/<id>`. Choosing a setting or a release
after reading the report is not covered by the guarantee.
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from dagster_project.data.images import decode_image
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.evaluation.fidelity import FidelityReport, evaluate
from dagster_project.evaluation.figures import NOTICE
from dagster_project.evaluation.reference import LEAST_ROWS, draw
from dagster_project.evaluation.report import render_few, render_html
from dagster_project.evaluation.rows_read import rows_read
from dagster_project.image.features import make_extractor
from dagster_project.pipeline import table_model
from dagster_project.pipeline.pairs import load_heldout, load_train
from dagster_project.pipeline.release import Release
from dagster_project.planning.costs import mechanism_rows
from dagster_project.release.features import image_column

_TABLE_RECORDS = 100_000
_MOST = 10_000  # synthetic and held-out pairs that are scored; more would not change the figures


def make(
    release: Release,
    folder: Path,
    *,
    extractor: str,
    weights: str | None,
    seconds: dict[str, float],
    progress: Progress,
) -> FidelityReport | None:
    """Write `private/<id>/fidelity_report.html` and `.json` for the bundle in `folder`.

    With fewer people than a comparison needs, they only say what became of the rows.

    Args:
        release: The release.
        folder: Its bundle.
        extractor: "efficientnet-lite0", "inception-v3" or "pixels".
        weights: Local weights file (Inception-v3).
        seconds: Wall time of each asset so far.
        progress: Callback that receives the fraction done and a text.

    Returns:
        The figures, or None if there are too few people for any.
    """
    page = release.private / "fidelity_report.html"
    became = rows_read(json.loads((release.private / "counts.json").read_text()))
    train, heldout = load_train(release), load_heldout(release)
    if min(len(train), len(heldout)) < LEAST_ROWS:
        known = {
            "notice": NOTICE,
            "epsilon": release.plan.epsilon,
            "delta": release.plan.target_delta,
            "rows": {"train": len(train), "heldout": len(heldout)},
            "peak_memory": peak_memory(),
            "seconds": seconds,
        }
        page.with_suffix(".json").write_text(json.dumps(known, indent=1))
        render_few(became, release.schema, page)
        return None
    schema, seed = release.schema, release.recipe.public_seed
    synthetic = read_bundle(folder, schema, most=_MOST)
    heldout = scored(heldout, most=_MOST, seed=seed)
    rng = np.random.default_rng(seed)
    report = evaluate(
        train,
        heldout,
        synthetic,
        table_model.load(release).model.sample(_TABLE_RECORDS, rng),
        schema,
        make_extractor(extractor, weights),
        seed,
        progress,
    )
    report = replace(
        report,
        epsilon=release.plan.epsilon,
        delta=release.plan.target_delta,
        peak_memory=peak_memory(),
        seconds=seconds,
    )
    page.with_suffix(".json").write_text(report.to_json())
    rows = mechanism_rows(release.plan)
    render_html(report, heldout, synthetic, schema, rows, page, became)
    return report


def scored(heldout: Pairs, *, most: int, seed: int) -> Pairs:
    """Return the held-out pairs that are scored: all of them, or `most` drawn by a public seed.

    Each is resampled some hundred times, so memory and time would grow with the people held out.
    """
    if len(heldout) <= most:
        return heldout
    return draw(heldout, most, np.random.default_rng([seed, 3]))


def read_bundle(folder: Path, schema: Schema, *, most: int) -> Pairs:
    """Return the first pairs of a bundle as arrays."""
    images, codes, values, read = [], [], [], 0
    for shard in sorted((folder / "data").glob("*.parquet")):
        if read >= most:
            break
        frame = pq.read_table(shard).slice(0, most - read).to_pandas()
        read += len(frame)
        cells = image_column(schema)
        images += [decode_image(cell["bytes"], schema.image) for cell in frame[cells]]
        codes.append(np.stack([a.encode(frame[a.column])[0] for a in schema.attributes], axis=1))
        values.append(np.stack([a.values(frame[a.column]) for a in schema.attributes], axis=1))
    return Pairs(
        images=np.stack(images), codes=np.concatenate(codes), values=np.concatenate(values)
    )


def peak_memory() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
