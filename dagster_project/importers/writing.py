"""Streaming of an archive's rows into a data folder, as Parquet files and schema.yaml.

Images are brought to the schema's size at once, in batches of bounded memory. A row that cannot be
read, or whose image cannot be used, is left out and counted, as when pairs are read; it never ends
the import. What a row means belongs to the formats.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import wrap
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dagster_project.data.images import UnusableImage, decode_image
from dagster_project.data.lines import BrokenRow
from dagster_project.data.schema import ImageSpec, Schema
from dagster_project.importers.archive import Archive, ImportRequest, Row, WrongArchive, png

BATCH = 500
_NUMBER = pa.float64()
_NO_TEXT = BrokenRow("text that cannot be written as UTF-8")
_FILES = {"train": "train.parquet", "heldout": "heldout.parquet", None: "records.parquet"}


@dataclass(frozen=True)
class Summary:
    """The result of an import. Private if the data is.

    Attributes:
        rows: Rows written, for each file.
        left_out: Rows left out, for each reason.
        schema: The content of schema.yaml.
    """

    rows: Mapping[str, int]
    left_out: Mapping[str, int]
    schema: Schema


def write(
    archive: Archive,
    destination: Path,
    request: ImportRequest,
    *,
    progress: Callable[[int], None] = lambda rows: None,
) -> Summary:
    """Write the data folder; it appears complete, by one rename, or not at all.

    Args:
        archive: An opened archive.
        destination: The data folder to make: absent, or an empty folder.
        request: The user's choices.
        progress: Called with the number of additional rows done.

    Raises:
        WrongArchive: The destination is taken, or no image is usable.
        SchemaError: A name or a domain does not fit a schema.
    """
    require_free(destination)
    if not (request.n_public or request.public or archive.documented):
        raise WrongArchive(
            "--n-public is needed: a rough number of people that may be published (or --public, if "
            "the data itself is public)"
        )
    content = _content(archive, destination, request)
    schema = Schema.from_dict(content)  # refuses before an image is read
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = destination.with_name(f".{destination.name}.import-{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        rows, left_out, people = _stream(archive, schema, request, folder, progress)
        if request.n_public is None and request.public:
            content["n_public"] = people
        (folder / "schema.yaml").write_text(_commented(content, archive.about), encoding="utf-8")
        os.rename(folder, destination)
    except OSError as error:
        raise WrongArchive(f"{destination} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
    return Summary(rows, left_out, Schema.from_dict(content))


def require_free(destination: Path) -> None:
    """Refuse a destination that is in use.

    Raises:
        WrongArchive: It is a link, a file, or a folder that is not empty.
    """
    if destination.is_symlink() or (destination.exists() and not destination.is_dir()):
        raise WrongArchive(f"{destination} is not a folder: name a new or an empty one")
    if destination.is_dir() and any(destination.iterdir()):
        raise WrongArchive(f"{destination} is not empty: name a new or an empty folder")


def _content(archive: Archive, destination: Path, request: ImportRequest) -> dict[str, Any]:
    height, width = archive.size
    return {
        "name": request.name or archive.name or destination.name,
        "public": request.public or archive.public,
        **archive.more,
        "person_id": "person",
        "n_public": request.n_public or archive.documented or 1,
        "image": {
            "column": "image",
            "channels": archive.channels,
            "height": height,
            "width": width,
        },
        "attributes": {name: dict(body) for name, body in archive.attributes.items()},
    }


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write repeated values out in full: people read and correct this file."""
        return True


def _commented(content: dict[str, Any], about: tuple[str, ...]) -> str:
    note = "".join(f"# {line}\n" for text in about for line in wrap(text, 96))
    body = yaml.dump(
        content,
        Dumper=_Plain,
        sort_keys=False,
        default_flow_style=None,
        width=100,
        allow_unicode=True,
    )
    return note + body


def _stream(
    archive: Archive,
    schema: Schema,
    request: ImportRequest,
    folder: Path,
    progress: Callable[[int], None],
) -> tuple[dict[str, int], dict[str, int], int]:
    """Return rows written by file, rows left out by reason, and the number of training people."""
    arrow = pa.schema(
        [("person", pa.string()), ("image", pa.binary())]
        + [
            (name, archive.types.get(name, _NUMBER if body["kind"] == "numeric" else pa.string()))
            for name, body in archive.attributes.items()
        ]
    )
    written: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    people: set[str] = set()
    rows, decoding = archive.rows(), archive.decoding or schema.image
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # Pillow's warnings are about single images
        pool = stack.enter_context(ThreadPoolExecutor(request.workers))
        writers: dict[str, pq.ParquetWriter] = {}
        while some := [_writable(row) for row in islice(rows, BATCH)]:
            left_out.update(row.reason for row in some if isinstance(row, BrokenRow))
            batch = [row for row in some if isinstance(row, Row)]
            sorted_rows: dict[str, list[dict[str, object]]] = {}
            for row, image in zip(batch, _images(batch, decoding, pool), strict=True):
                part = request.validation if row.part == "validation" else row.part
                if isinstance(image, UnusableImage):
                    left_out[f"image {image}"] += 1
                elif part == "drop":
                    left_out["validation part"] += 1
                else:
                    line = {**row.record, "person": row.person, "image": image}
                    sorted_rows.setdefault(_FILES[part], []).append(line)
                    if part != "heldout":
                        people.add(row.person)
            for name, lines in sorted_rows.items():
                if name not in writers:
                    writer = pq.ParquetWriter(folder / name, arrow, compression="zstd")
                    writers[name] = stack.enter_context(writer)
                writers[name].write_table(pa.Table.from_pylist(lines, arrow))
                written[name] += len(lines)
            progress(len(some))
    if not people:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in left_out.items()) or "no rows"
        raise WrongArchive(f"the archive holds no pair to train on ({reasons})")
    return dict(written), dict(left_out), len(people)


def _writable(row: Row | BrokenRow) -> Row | BrokenRow:
    """Return the row, unless it holds text that Parquet cannot: file names may be any bytes."""
    if isinstance(row, BrokenRow):
        return row
    try:
        for text in (row.person, *row.record.values()):
            if isinstance(text, str):
                text.encode()
    except UnicodeEncodeError:
        return _NO_TEXT
    return row


def _images(
    batch: list[Row], spec: ImageSpec, pool: ThreadPoolExecutor
) -> Iterator[bytes | UnusableImage]:
    """Yield a PNG of the schema's size, or why there is none, for each row."""

    def convert(row: Row) -> bytes | UnusableImage:
        try:
            pixels = decode_image(row.image(), spec)
        except UnusableImage as error:
            return error
        return png(pixels[0] if spec.channels == 1 else pixels.transpose(1, 2, 0))

    return pool.map(convert, batch)
