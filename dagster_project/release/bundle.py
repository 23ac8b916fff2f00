"""Writes the public bundle of a release, chunk by chunk, so that a killed run can resume.

    data/train-00000-of-00004.parquet   pairs: `image` = {bytes, path}, then the attributes
    previews/*.png                      grids by attribute
    quality.json, README.md             public quality, data card
    croissant.json                      the same for machines, in the Croissant format
    csv/metadata.csv, csv/images/*.png   only if asked for: the pairs as a table and picture files
    manifest.json                       written last, removed first: marks the bundle as complete

Files are written completely or not at all, and the same pairs give the same bytes. No private
record may be passed to this module.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dagster_project.data.schema import Schema
from dagster_project.privacy.plan import canonical_hash
from dagster_project.release import manifest as manifests
from dagster_project.release import previews
from dagster_project.release.croissant import NAME as CROISSANT
from dagster_project.release.croissant import describe
from dagster_project.release.features import IMAGE, features, image_column
from dagster_project.release.pictures import write_table

_FINGERPRINT = b"dp_tabimage.fingerprint"
_PREVIEWED = 2000  # pairs that the preview grids are chosen from


class BundleWriter:
    """A writer of one bundle.

    Args:
        folder: `releases/<release_id>`; nothing is created before the first chunk.
        schema: The public contract.
        total: Number of pairs.
        chunk: Pairs in each chunk (the last may be shorter).
        parameters: Everything that determines the pairs: seed, hashes of the model's files,
            sampler settings. Chunks on disk are kept only if it is unchanged. Its hash is written
            into the files, so it must contain nothing private.

    Raises:
        ValueError: If `total` or `chunk` is not positive.
    """

    def __init__(
        self,
        folder: str | Path,
        schema: Schema,
        total: int,
        chunk: int,
        *,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        if total < 1 or chunk < 1:
            raise ValueError("A bundle needs at least one pair and chunks of at least one.")
        self.folder = Path(folder)
        self.schema = schema
        self.total = total
        self.chunk = chunk
        self.chunks = -(-total // chunk)
        self.image_column = image_column(schema)
        self._fingerprint = canonical_hash(
            {
                "parameters": dict(parameters or {}),
                "schema": schema.hash,
                "total": total,
                "chunk": chunk,
            }
        ).encode()

    def rows(self, index: int) -> range:
        """Return the numbers of the pairs in a chunk."""
        if not 0 <= index < self.chunks:
            raise IndexError(f"There is no chunk {index} of {self.chunks}.")
        return range(index * self.chunk, min((index + 1) * self.chunk, self.total))

    def path(self, index: int) -> Path:
        """Return the path of a chunk."""
        return self.folder / "data" / f"train-{index:05d}-of-{self.chunks:05d}.parquet"

    def missing_chunks(self) -> list[int]:
        """Return the chunks that are not on disk yet, or were made with other parameters."""
        return [index for index in range(self.chunks) if not self._is_written(index)]

    def write_chunk(
        self,
        index: int,
        images: np.ndarray,
        codes: np.ndarray,
        rng: np.random.Generator,
        records: pd.DataFrame | None = None,
    ) -> Path:
        """Write one chunk of synthetic pairs.

        Args:
            index: Chunk number.
            images: uint8 (n, C, H, W), n as in `rows(index)`.
            codes: (n, d) cells in schema order.
            rng: Public randomness of this chunk (numbers are drawn within their bins). Derive it
                from seed and index, or a resumed run will differ.
            records: The values of the cells, if they are drawn already.

        Raises:
            ValueError: If a shape or type does not match the schema.
        """
        numbers, spec = self.rows(index), self.schema.image
        if images.dtype != np.uint8 or images.shape != (
            len(numbers), spec.channels, spec.height, spec.width,
        ):  # fmt: skip
            raise ValueError(f"Chunk {index}: the images have the wrong type or shape.")
        if codes.shape != (len(numbers), len(self.schema.attributes)):
            raise ValueError(f"Chunk {index}: the codes have the wrong shape.")
        if records is None:
            records = self.schema.decode(codes, rng)
        columns: dict[str, pa.Array] = {
            self.image_column: pa.array(
                [
                    {"bytes": previews.encode_png(image), "path": f"{number:08d}.png"}
                    for number, image in zip(numbers, images, strict=True)
                ],
                type=IMAGE,
            )
        }
        table_columns = self.schema.to_columns(records)
        for name, kind in self.schema.columns.items():
            columns[name] = pa.array(table_columns[name], type=kind, from_pandas=True)
        table = pa.table(columns).replace_schema_metadata(
            {b"huggingface": features(self.schema), _FINGERPRINT: self._fingerprint}
        )
        stream = io.BytesIO()
        pq.write_table(table, stream, compression="zstd", row_group_size=1000)
        (self.folder / manifests.NAME).unlink(missing_ok=True)
        write_atomically(self.path(index), stream.getvalue())
        return self.path(index)

    def finish(
        self, manifest: Mapping[str, Any], card: str, quality: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Add previews, quality and card, and finally the manifest with the hash of every file.

        Returns:
            The manifest as written.

        Raises:
            ValueError: If a chunk is missing.
        """
        if missing := self.missing_chunks():
            raise ValueError(f"{len(missing)} of {self.chunks} chunks are not written yet.")
        (self.folder / manifests.NAME).unlink(missing_ok=True)
        self._remove_strays()
        for name, image in self._draw_previews().items():
            write_atomically(self.folder / "previews" / name, image)
        write_atomically(self.folder / "quality.json", _json(quality))
        write_atomically(self.folder / "README.md", card.encode())
        sampling = manifest["sampling"]
        if sampling.get("format") == "csv":
            shards = [self.path(index) for index in range(self.chunks)]
            write_table(self.folder / "csv", shards, self.image_column)
        shown = describe(self.folder, self.schema, licence=sampling.get("licence"))
        write_atomically(self.folder / CROISSANT, _json(shown))
        whole = {**manifest, "files": manifests.file_hashes(self.folder)}
        write_atomically(self.folder / manifests.NAME, _json(whole))
        return whole

    def _is_written(self, index: int) -> bool:
        try:
            found = pq.read_metadata(self.path(index))
        except (OSError, pa.ArrowInvalid):
            return False
        fingerprint = (found.metadata or {}).get(_FINGERPRINT)
        return fingerprint == self._fingerprint and found.num_rows == len(self.rows(index))

    def _remove_strays(self) -> None:
        """Remove chunks and previews of an earlier version of this bundle, and partial files."""
        kept = {self.path(index) for index in range(self.chunks)}
        for pattern in ("data/*.parquet", "previews/*.png", "csv/**/*.*", "**/*.tmp"):
            for path in set(self.folder.glob(pattern)) - kept:
                path.unlink()

    def _draw_previews(self) -> dict[str, bytes]:
        shards, rows = [], 0
        for index in range(self.chunks):
            if rows >= _PREVIEWED:
                break
            shards.append(pq.read_table(self.path(index)))
            rows += len(shards[-1])
        table = pa.concat_tables(shards).slice(0, _PREVIEWED)
        images = [item["bytes"] for item in table[self.image_column].to_pylist()]
        return previews.draw(
            images, table.select(list(self.schema.columns)).to_pandas(), self.schema
        )


def _json(value: Mapping[str, Any]) -> bytes:
    # Keys keep their order, because that of the schema's attributes is a part of its hash.
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file completely and durably, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
