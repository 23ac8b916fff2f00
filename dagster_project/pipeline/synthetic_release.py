"""Samples records, then an image for each, and writes the public bundle, at no privacy cost.

This is post-processing of committed models with seeded public randomness: the same models, number
and seed give the same bytes, and other numbers or seeds cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dagster_project.data.progress import Progress
from dagster_project.evaluation.plots import data_uri
from dagster_project.ledger.errors import WrongState
from dagster_project.ledger.files import file_sha256
from dagster_project.pipeline import detail_model, drawing, public_images, table_model
from dagster_project.pipeline.release import Models, Release
from dagster_project.privacy.plan import canonical_hash
from dagster_project.release import card, manifest, quality
from dagster_project.release.bundle import BundleWriter
from dagster_project.release.features import image_column
from dagster_project.release.previews import encode_png
from dagster_project.table.conditions import Condition, draw

PARENTS = ("table_model", "mean_pairs", "pretrained_checkpoint", "image_model")


def parents(release: Release) -> tuple[str, ...]:
    """Return the committed stages that a bundle is made from."""
    return (
        *PARENTS,
        *detail_model.stage_of(release),
        *public_images.stage_of(release, "semantic_query"),
    )


def make(
    release: Release,
    folder: Path,
    *,
    n: int,
    seed: int,
    progress: Progress,
    where: str | None = None,
    licence: str | None = None,
    csv: bool = False,
) -> Mapping[str, Any]:
    """Write a bundle of `n` pairs to `folder` and return its manifest.

    It can be restarted: finished chunks with the same parameters are kept. Every parent is verified
    against the ledger first, so that nothing is made from altered or uncommitted models.

    Args:
        where: A condition that every record meets (`table.conditions`), or None for all records.
        licence: The publisher's licence for the synthetic data, if possible an identifier that
            Hugging Face knows ("cc-by-4.0"), or None if not stated.
        csv: Whether to add the pairs as a CSV table with picture files.
    """
    models: dict[str, str] = {}
    for stage in parents(release):
        made = release.ledger.verify_artifacts(release.id, stage, release.models)
        models |= dict(made.files)
    sampler = release.recipe.sampler
    writer = BundleWriter(
        folder,
        release.schema,
        n,
        sampler.chunk,
        parameters={"seed": seed, "models": models, "sampler": sampler.model_dump(mode="json")}
        | ({"where": where} if where else {}),
    )
    fitted = table_model.load(release)
    rng, drawn = np.random.default_rng([seed, 0]), None
    if where:
        drawn = draw(fitted.model, Condition.parse(where, release.schema), n, rng)
        codes = drawn.codes
    else:
        codes = fitted.model.sample(n, rng)
    missing = list(writer.missing_chunks())
    chunks = ((index, _part(codes, writer.rows(index))) for index in missing)
    with release.compute.open_workers() as workers:
        images_of = workers.map_shards(drawing.ChunkImages(release.public_models(), seed), chunks)
        for index, images in zip(missing, images_of, strict=True):
            rows = writer.rows(index)
            writer.write_chunk(
                index,
                images,
                _part(codes, rows),
                np.random.default_rng([seed, 1, index]),
                drawn.records[rows.start : rows.stop] if drawn else None,
            )
            progress(rows.stop / n, "drawing images")
    sampling: dict[str, Any] = {"n": n, "seed": seed, **sampler.model_dump(mode="json")}
    sampling |= ({"licence": licence} if licence else {}) | ({"format": "csv"} if csv else {})
    if drawn:
        # The measurements are of everybody, so they say nothing of these records.
        report = {}
        people = round(drawn.share * fitted.model.total, 1)
        sampling |= {"where": where, "share": round(drawn.share, 6), "people": people}
    else:
        report = quality.public_quality(codes, release.schema, fitted.measurements)
    stated = manifest.build(
        release.plan,
        release.schema,
        sampling=sampling,
        ledger_head=_rests_on(release),
        public_images=public_images.facts(release),
    )
    text = card.write_card(stated, release.schema, report)
    return writer.finish(stated, text, report)


def write(
    release: Release,
    folder: Path,
    *,
    n: int,
    seed: int,
    progress: Progress,
    licence: str | None = None,
) -> None:
    """Make a bundle and enter it in the ledger, unless it is already committed."""
    if not is_committed(release, folder, n=n, seed=seed):
        make(release, folder, n=n, seed=seed, licence=licence, progress=progress)
        commit(release, folder)


def commit(release: Release, folder: Path) -> None:
    """Enter the bundle's files in the ledger, so that each of them can be traced back.

    A bundle that was committed before must be unchanged; another number or seed is another
    stage, named after both.
    """
    stated = manifest.read(folder)
    stage = stage_of(stated["sampling"])
    if release.ledger.committed(release.id, stage) is not None:
        release.ledger.verify_artifacts(release.id, stage, folder)
        return
    hashes = {name: entry["sha256"] for name, entry in stated["files"].items()}
    hashes[manifest.NAME] = file_sha256(folder / manifest.NAME)
    release.ledger.commit(release.id, stage, hashes, list(parents(release)))
    if where := stated["sampling"].get("where"):
        release.ledger.attach(release.id, **{f"condition of {stage}": where})


def _rests_on(release: Release) -> str:
    """Return the hash of the ledger entry that committed the last parent.

    It is the same for every sampling.
    """
    made = [release.ledger.committed(release.id, stage) for stage in parents(release)]
    newest = max(artifacts.entry for artifacts in made if artifacts is not None)
    return release.ledger.entries()[newest - 1].hash


def stage_name(n: int, seed: int, where: str | None = None, csv: bool = False) -> str:
    """Return the name of a bundle's stage in the ledger.

    A condition appears as a hash, since names of stages cannot hold it; the manifest states it.
    """
    asked = (f".where-{canonical_hash(where)[:12]}" if where else "") + ".csv" * csv
    return f"synthetic_release.n{n}.seed{seed}{asked}"


def stage_of(sampling: Mapping[str, Any]) -> str:
    """Return the name of a bundle's stage from the sampling in its manifest."""
    csv = sampling.get("format") == "csv"
    return stage_name(sampling["n"], sampling["seed"], sampling.get("where"), csv)


def newest_bundle(release: Release) -> Path:
    """Return the folder of the bundle without a condition that was committed last."""
    stages = release.ledger.release(release.id).stages
    made = [
        stage.artifacts
        for name, stage in stages.items()
        if name.startswith("synthetic_release.") and ".where-" not in name
    ]
    last = max((m for m in made if m is not None), key=lambda m: m.entry)
    folders = [release.bundle, *sorted(release.bundle.parent.glob(f"{release.id}-n*"))]
    for folder in folders:
        stated = manifest.read(folder)["sampling"] if folder.is_dir() else {}
        if stated and stage_of(stated) == last.stage:
            return folder
    raise WrongState(
        f"the newest bundle of release {release.id!r} is not in {release.bundle.parent}"
    )


def mlflow_run(release: Release) -> str | None:
    """Return the MLflow run recorded in the ledger for this release."""
    facts = release.ledger.release(release.id).facts
    return next((str(f["mlflow_run"]) for f in reversed(facts) if "mlflow_run" in f), None)


def preview_markdown(folder: Path) -> str:
    """Return the bundle's preview grids as Markdown with embedded images."""
    grids = sorted((folder / "previews").glob("*.png"))[:2]
    return "\n\n".join(f"![{g.stem}]({data_uri(g.read_bytes())})" for g in grids)


def content_hash(folder: Path) -> str:
    """Return the hash of the bundle's manifest, which contains the hash of every file."""
    return file_sha256(folder / manifest.NAME)


def is_committed(release: Release, folder: Path, *, n: int, seed: int) -> bool:
    """Return whether this bundle is committed and unaltered on disk.

    Raises:
        ArtifactAltered: If it is committed and its files have changed.
    """
    stage = stage_name(n, seed)
    if release.ledger.committed(release.id, stage) is None:
        return False
    release.ledger.verify_artifacts(release.id, stage, folder)
    return True


def draw_pairs(models: Models, *, n: int, seed: int, where: str | None = None) -> pd.DataFrame:
    """Return `n` pairs as a table: the PNG bytes of each image, and the columns of the schema.

    They are the pairs of a bundle of the same number and seed, if it has a single chunk.
    """
    fitted, rng = table_model.load(models), np.random.default_rng([seed, 0])
    if where:
        drawn = draw(fitted.model, Condition.parse(where, models.schema), n, rng)
        codes, records = drawn.codes, drawn.records
    else:
        codes = fitted.model.sample(n, rng)
        records = models.schema.decode(codes, np.random.default_rng([seed, 1, 0]))
    images = drawing.ChunkImages(models, seed)((0, codes))
    table = models.schema.to_columns(records)
    table.insert(0, image_column(models.schema), [encode_png(image) for image in images])
    return table


def _part(codes: np.ndarray, rows: range) -> np.ndarray:
    return codes[rows.start : rows.stop]
