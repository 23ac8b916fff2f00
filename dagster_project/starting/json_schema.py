"""The JSON Schema of schema.yaml: completion and explanations for editors and for the draft.

Its keys are those that the rules of `data.schema_rules` know; rules on several fields at once, such
as distinct column names, belong to those rules alone.
"""

from __future__ import annotations

from typing import Any

from dagster_project.data.blanks import BLANK
from dagster_project.data.schema_rules import MAX_CELLS

_COLUMN = {"type": "string", "minLength": 1, "maxLength": 64, "not": {"const": BLANK}}


def _field(description: str, **body: Any) -> dict[str, Any]:
    return {"description": description, **body}


IMAGE: dict[str, dict[str, Any]] = {
    "column": _field("column with the images' file names, or their bytes", **_COLUMN),
    "channels": _field("1 for grey, 3 for colour", enum=[1, 3]),
    "height": _field(
        "height to which images are brought: 8 to 64 pixels, such as 40",
        type="integer",
        minimum=8,
        maximum=64,
    ),
    "width": _field(
        "width to which images are brought: 8 to 64 pixels, such as 40",
        type="integer",
        minimum=8,
        maximum=64,
    ),
}
ATTRIBUTE: dict[str, dict[str, Any]] = {
    "kind": _field("categorical or numeric", enum=["categorical", "numeric"]),
    "categories": _field(
        "every value that the column may hold, such as [f, m]; quote numbers with leading zeros",
        type="array",
        minItems=1,
        maxItems=MAX_CELLS,
        uniqueItems=True,
        items={"type": ["string", "integer"]},
    ),
    "edges": _field(
        "increasing bounds of the bins, in round numbers, such as [0, 20, 40, 60, 80, 120]",
        type="array",
        minItems=2,
        maxItems=MAX_CELLS + 1,
        items={"type": "number"},
    ),
    "missing": _field("false only if no cell of the column is ever empty", type="boolean"),
    "out_of_domain": _field(
        "other values: drop the row, clamp (to the nearer bound), fallback:<category>, missing",
        type="string",
        pattern="^(drop|clamp|missing|fallback:.+)$",
    ),
}
TOP: dict[str, dict[str, Any]] = {
    "name": _field("short name of the data set", **_COLUMN),
    "public": _field("true only if the data itself is public, such as a benchmark", type="boolean"),
    "population": _field("name of the population whose budget pays, in population.yaml", **_COLUMN),
    "n_public": _field(
        "rough number of people that anybody may know; the same in population.yaml",
        type="integer",
        minimum=1,
        maximum=10**10,
    ),
    "person_id": _field("column that names the person, who is the unit of privacy", **_COLUMN),
    "person_id_rule": _field(
        "exact, or integer if 0012 and 12 are one person", enum=["exact", "integer"]
    ),
    "image": _field(
        "the image column, and the form to which every image is brought",
        type="object",
        properties=IMAGE,
        required=["channels", "column", "height", "width"],
        additionalProperties=False,
    ),
    "attributes": _field(
        "the columns to learn, and their public domains",
        type="object",
        minProperties=1,
        propertyNames=_COLUMN,
        additionalProperties={
            "type": "object",
            "properties": ATTRIBUTE,
            "required": ["kind"],
            "additionalProperties": False,
            "oneOf": [
                {"properties": {"kind": {"const": kind}}, "required": [domain]}
                for kind, domain in (("categorical", "categories"), ("numeric", "edges"))
            ],
        },
    ),
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of schema.yaml."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "schema.yaml of dp-tabimage",
        "description": "The public contract of a data set; nothing in it derives from records.",
        "type": "object",
        "properties": TOP,
        "required": ["name", "person_id", "n_public", "image", "attributes"],
        "additionalProperties": False,
    }
