"""How Hugging Face's `datasets` must read the shards: an image, classes, numbers.

Classes are stored as text, so that every other reader sees their names, and declared as
`ClassLabel`, so that `datasets` gives their numbers and knows their names.
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
    """Return the metadata of a shard for `datasets`."""
    found: dict[str, dict[str, Any]] = {image_column(schema): {"_type": "Image"}}
    classes = {
        a.column: list(a.categories)
        for a in schema.attributes
        if a.group is None and a.kind == "categorical" and pa.types.is_string(a.arrow_type)
    }
    for name, kind in schema.columns.items():
        if name in classes:
            found[name] = {"names": classes[name], "_type": "ClassLabel"}
        else:
            found[name] = {"dtype": _DTYPES.get(str(kind), str(kind)), "_type": "Value"}
    return json.dumps({"info": {"features": found}}).encode()
