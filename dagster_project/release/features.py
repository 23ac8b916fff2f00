"""How Hugging Face's `datasets` must read a bundle: an image, classes, numbers.

Classes are stored as text, so that every other reader sees their names, and the card declares them
as `ClassLabel`.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from dagster_project.data.schema import Schema

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_DTYPES = {"double": "float64", "date32[day]": "date32"}  # Arrow's names to those of `datasets`


def image_column(schema: Schema) -> str:
    """Return the name of the image column: "image", unless another column has that name."""
    return "image" if "image" not in schema.columns else schema.image.column


def features(schema: Schema) -> bytes:
    """Return the metadata of a shard for `datasets`: the types as they are stored."""
    found: dict[str, dict[str, Any]] = {image_column(schema): {"_type": "Image"}}
    for name, kind in schema.columns.items():
        found[name] = {"dtype": _dtype(kind), "_type": "Value"}
    return json.dumps({"info": {"features": found}}).encode()


def card_features(schema: Schema) -> list[dict[str, Any]]:
    """Return the features for the front matter of a card, where categories are classes.

    `datasets` follows the card when it loads the bundle's folder, and turns names into numbers.
    """
    classes = {
        a.column: a.categories
        for a in schema.attributes
        if a.group is None and a.kind == "categorical" and pa.types.is_string(a.arrow_type)
    }
    found: list[dict[str, Any]] = [{"name": image_column(schema), "dtype": "image"}]
    for name, kind in schema.columns.items():
        names = {str(number): text for number, text in enumerate(classes.get(name, ()))}
        found.append(
            {"name": name, "dtype": {"class_label": {"names": names}} if names else _dtype(kind)}
        )
    return found


def _dtype(kind: pa.DataType) -> str:
    return _DTYPES.get(str(kind), str(kind))
