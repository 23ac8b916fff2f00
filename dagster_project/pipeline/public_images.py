"""Reads or draws the public pool and fits the classifier of its labels. Reads nothing private.

Its files are entered in the ledger by `semantic_query`, the first stage that has a mechanism or a
committed model behind it. Preparing a large pool takes minutes, so the result is cached in the
account's cache folder under a hash of the files, the settings and the code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dagster_project.data.progress import Progress
from dagster_project.ledger.files import file_sha256
from dagster_project.pipeline.release import Release
from dagster_project.planning.provenance import code_version
from dagster_project.public_data.pool import STATEMENT, PublicPool, list_files, read_folder
from dagster_project.public_data.procedural_pool import draw_pool
from dagster_project.public_data.query import LabelClassifier, fit_classifier

POOL, CLASSIFIER, FACTS = "public_images.npz", "label_classifier.npz", "public_images.json"
FILES = (POOL, CLASSIFIER, FACTS)
PROCEDURAL = "procedural"


def used(release: Release) -> bool:
    """Return whether the recipe names a public pool."""
    return release.recipe.public_images.source is not None


def stage_of(release: Release, name: str) -> tuple[str, ...]:
    """Return the stage name in a tuple, which is empty without a public pool."""
    return (name,) if used(release) else ()


def prepare(release: Release, progress: Progress) -> bool:
    """Write the pool, the classifier and `public_images.json` to `models/<id>`.

    Does nothing if they exist or the recipe names no pool.

    Raises:
        ValueError: If the pool cannot be used; the message is one sentence.
    """
    if not used(release) or all((release.models / name).is_file() for name in FILES):
        return False
    kept = cache_folder() / _fingerprint(release)
    if not kept.is_dir():
        pending = kept.with_name(f"{kept.name}.{os.getpid()}")
        pending.mkdir(parents=True)
        try:
            _make(release, pending, progress)
            if not kept.is_dir():
                pending.replace(kept)
        finally:
            shutil.rmtree(pending, ignore_errors=True)
    query = release.recipe.semantic_query
    labels = len(LabelClassifier.load(kept / CLASSIFIER).bias)
    if query.form == "histogram" and labels < query.top_k:
        raise ValueError(f"the pool has {labels} labels, fewer than semantic_query.top_k")
    release.models.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(kept / name, release.models / name)
    progress(1.0, "public images ready")
    return True


def load_pool(release: Release) -> PublicPool:
    """Load the pool as used, including negatives and groups of labels."""
    return PublicPool.load(release.models / POOL)


def load_classifier(release: Release) -> LabelClassifier:
    """Load the classifier of the pool's labels."""
    return LabelClassifier.load(release.models / CLASSIFIER)


def facts(release: Release) -> dict[str, Any] | None:
    """Return the facts about the pool for manifest and card; None if there is no pool."""
    if not used(release):
        return None
    return json.loads((release.models / FACTS).read_text())


def cache_folder() -> Path:
    """Return the folder of prepared pools, which contains only public files."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dp-tabimage" / "public"


def _make(release: Release, folder: Path, progress: Progress) -> None:
    settings = release.recipe.public_images
    given = _read(release, lambda f, text: progress(0.5 * f, text))
    pool, classifier = fit_classifier(
        given.with_negatives() if settings.negatives else given,
        extractor=settings.extractor,
        most=settings.labels,
        progress=lambda f, text: progress(0.5 + 0.5 * f, text),
    )
    pool.save(folder / POOL)
    classifier.save(folder / CLASSIFIER)
    stated = {
        "name": given.name,
        "sha256": given.sha256,
        "images": len(given),
        "labels": len(given.names),
        "skipped": dict(given.skipped),
        "statement": STATEMENT,
    }
    (folder / FACTS).write_text(json.dumps(stated, indent=1, sort_keys=True) + "\n")


def _read(release: Release, progress: Progress) -> PublicPool:
    settings, spec = release.recipe.public_images, release.schema.image
    assert settings.source is not None
    if settings.source == PROCEDURAL:
        rng = np.random.default_rng([release.recipe.public_seed, 5])
        return draw_pool(settings.images, spec, rng=rng)
    source = Path(settings.source).expanduser()
    if source.suffix != ".npz":
        return read_folder(
            source,
            spec,
            name=settings.name,
            depth=settings.depth,
            smallest=settings.smallest,
            progress=progress,
        )
    pool = PublicPool.load(source)
    if pool.images.shape[1:] != (spec.channels, spec.height, spec.width):
        raise ValueError(f"the images of {source.name} do not have the schema's size")
    return pool


def source_state(source: str | None) -> list[object]:
    """Return the state of a pool's files, to detect changes.

    This is the hash of an .npz, or names, sizes and times of a folder's images. It is empty for a
    procedural pool or none.
    """
    if source is None or source == PROCEDURAL:
        return []
    path = Path(source).expanduser()
    return [file_sha256(path)] if path.is_file() else list(list_files(path))


def _fingerprint(release: Release) -> str:
    """Return a hash of all that determines the prepared files: the pool's files, settings, code."""
    settings = release.recipe.public_images
    parts: list[object] = [
        settings.model_dump_json(),
        vars(release.schema.image),
        code_version(__name__),
    ]
    if settings.source == PROCEDURAL:
        parts.append(release.recipe.public_seed)
    parts += source_state(settings.source)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
