"""The description of a bundle in the Croissant format of MLCommons (version 1.0), as JSON-LD.

Specification: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Everything in it
follows from the public schema and from the bundle's files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from dagster_project.data.schema import Schema
from dagster_project.ledger.files import file_sha256
from dagster_project.release.features import image_column

NAME = "croissant.json"
_CR = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileObject", "fileProperty",
    "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField",
    "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator",
    "source", "subField", "transform",
)  # fmt: skip
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
    **{name: f"cr:{name}" for name in _CR},
}


def describe(folder: Path, schema: Schema, *, licence: str | None) -> dict[str, Any]:
    """Return the description of a bundle whose shards are written.

    Every shard is a file with its hash and a record set of its own, since the format can only join
    files that an archive contains.

    Args:
        folder: The bundle.
        schema: The public contract.
        licence: The publisher's licence, or None.
    """
    shards = sorted((folder / "data").glob("*.parquet"))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": schema.name,
        "description": f"Synthetic pairs of an image and a record, drawn under differential "
        f"privacy from models of {schema.name}. Nobody's data is in it; README.md states the "
        "guarantee.",
        **({"license": licence} if licence else {}),
        "isLiveDataset": False,
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": shard.name,
                "name": shard.name,
                "contentUrl": f"data/{shard.name}",
                "contentSize": f"{shard.stat().st_size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": file_sha256(shard),
            }
            for shard in shards
        ],
        "recordSet": [_records(shard.name, schema) for shard in shards],
    }


def _records(shard: str, schema: Schema) -> dict[str, Any]:
    name = shard.removesuffix(".parquet")
    columns = {image_column(schema): "sc:ImageObject"} | {
        column: _type(kind) for column, kind in schema.columns.items()
    }
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{number}",  # a name may hold spaces, an id may not
                "name": column,
                "dataType": kind,
                "source": {
                    "fileObject": {"@id": shard},
                    "extract": {"column": column},
                    **({"transform": {"jsonPath": "bytes"}} if kind == "sc:ImageObject" else {}),
                },
            }
            for number, (column, kind) in enumerate(columns.items())
        ],
    }


def _type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Date" if pa.types.is_date(kind) else "sc:Text"
