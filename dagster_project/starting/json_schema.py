"""The JSON Schema of schema.yaml: completion and explanations for editors, and for the draft.

It is generated from the definitions of what a schema may hold: the kinds of attributes, the form of
tables and the rules of images. Rules on several fields at once, such as distinct column names,
remain with `data.schema_rules` alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from dagster_project.data import image_rules
from dagster_project.data.attribute_rules import COMMON, KINDS, MAX_CELLS
from dagster_project.data.blanks import BLANK
from dagster_project.data.raw_values import AGE_UNITS
from dagster_project.data.schema_rules import OPTIONAL, TOP
from dagster_project.data.table_format import ALL_OTHERS, DELIMITERS, ENCODINGS, TableFormat

_TEXT = {"type": "string", "minLength": 1, "maxLength": 200, "not": {"const": BLANK}}
_SCALARS = {"type": ["string", "number"], "not": {"const": BLANK}}
_TEXTS = {"type": "array", "items": _SCALARS}
_FLAG = {"type": "boolean"}
_WHOLE = {"type": "integer"}


def _field(description: str, *shapes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"description": description}
    for shape in shapes:
        body |= shape
    return body | more


_SIDE = {**_WHOLE, "minimum": 8, "maximum": 64}
IMAGE: dict[str, dict[str, Any]] = {
    "column": _field("column with the images' file names, or their bytes", _TEXT),
    "channels": _field("1 for grey, 3 for colour", enum=[1, 3]),
    "height": _field("height that every image gets: 8 to 64 pixels, such as 40", _SIDE),
    "width": _field("width that every image gets: 8 to 64 pixels, such as 40", _SIDE),
    "window": _field(
        "values that become black and white, for more than 8 bits: {low: 0, high: 4095}",
        type="object",
        properties={"low": {"type": "number"}, "high": {"type": "number"}},
        required=["low", "high"],
        additionalProperties=False,
    ),
    "background": _field("what shines through transparent pixels", enum=["white", "black"]),
    "max_pixels": _field("an image with more pixels is not decoded", _WHOLE, minimum=4096),
    "file": _field(
        "how a name becomes a file's name: '{name}.jpg', '{name:5}.png', '{stem}.png'",
        anyOf=[_TEXT, {"type": "array", "items": _TEXT, "maxItems": image_rules.MOST_PATTERNS}],
    ),
    "separator": _field("what separates the folders in a name", enum=["/", "\\"]),
    "strip_prefix": _field("leading folders that are removed from names", _TEXT),
    "link_cache": _field("the only folder into which links may lead, such as DVC's cache", _TEXT),
    "pictures_per_person": _field("one picture of each person, chosen at random", enum=["one"]),
}
TABLE: dict[str, dict[str, Any]] = {
    "delimiter": _field("what separates fields", enum=list(DELIMITERS)),
    "encoding": _field("encoding of the text; cp1252 is that of Western Excel", enum=[*ENCODINGS]),
    "quote": _field("none if a quote is an ordinary character", enum=["double", "none"]),
    "trailing_delimiters": _field("whether lines may end in delimiters", _FLAG),
    "line_breaks": _field("whether ignored fields at the end may hold line breaks", _FLAG),
    "decimal": _field("decimal sign of numbers that are text", enum=[".", ","]),
    "thousands": _field(
        "what separates thousands in numbers that are text", enum=["", ",", ".", "'", " "]
    ),
    "missing_values": _field("texts that mean an empty cell, such as [NA, k.A., -9]", _TEXTS),
    "ignore": _field(
        f"columns that are not used, or {ALL_OTHERS}", anyOf=[_TEXTS, {"const": ALL_OTHERS}]
    ),
}
_WORDS = {**_TEXTS, "minItems": 1, "maxItems": MAX_CELLS, "uniqueItems": True}
ATTRIBUTE: dict[str, dict[str, Any]] = {
    "kind": _field(f"{', '.join(KINDS)}", enum=list(KINDS)),
    "column": _field("column that holds it, if it is called otherwise", _TEXT),
    "missing_values": TABLE["missing_values"],
    "categories": _field("every value that the column may hold, such as [f, m]", _WORDS),
    "aliases": _field("further spellings, each with its word, such as {M: male}", type="object"),
    "ignore_case": _field("whether upper and lower case are the same", _FLAG),
    "edges": _field(
        "bounds of the bins in round numbers (or dates), such as [0, 20, 40, 60, 80, 120]",
        type="array",
        minItems=2,
        maxItems=MAX_CELLS + 1,
        items=_SCALARS,
    ),
    "integer": _field("whether the numbers are whole", _FLAG),
    "true_values": _field("texts that mean true", _TEXTS),
    "false_values": _field("texts that mean false", _TEXTS),
    "suffix": _field("text behind the numbers, such as kg or %", _TEXT),
    "format": _field("how dates are written, such as '%d.%m.%Y'; ISO without it", _TEXT),
    "unit": _field("unit of the ages", enum=list(AGE_UNITS)),
    "labels": _field("labels of which a cell may list several; each becomes a yes or no", _WORDS),
    "separator": _field("what separates labels in a cell", _TEXT),
    "none": _field("text of a cell without a label, such as No Finding", type="string"),
    "missing": _field("false only if no cell of the column is ever empty", _FLAG),
    "out_of_domain": _field(
        "other values: drop the row, clamp (to the nearer bound), fallback:<category>, missing",
        type="string",
        pattern="^(drop|clamp|missing|ignore|fallback:.+)$",
    ),
}
FIELDS: dict[str, dict[str, Any]] = {
    "name": _field("short name of the data set", _TEXT),
    "public": _field("true only if the data itself is public, such as a benchmark", _FLAG),
    "population": _field("name of the population whose budget pays, in population.yaml", _TEXT),
    "n_public": _field(
        "rough number of people that anybody may know; the same in population.yaml",
        _WHOLE,
        minimum=1,
        maximum=10**10,
    ),
    "person_id": _field("column that names the person, who is the unit of privacy", _TEXT),
    "person_id_rule": _field(
        "exact; integer if 0012 and 12 are one person; 5 digits if 12 is 00012",
        type="string",
        pattern=r"^(exact|integer|[1-9]\d? digits)$",
    ),
    "table": _field("the form of a CSV file"),
    "image": _field("the image column, and the form to which every image is brought"),
    "attributes": _field("the columns to learn, and their public domains"),
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of schema.yaml."""
    kinds = [
        {
            **_object(ATTRIBUTE, COMMON | needed | optional, {"kind", *needed}),
            "title": kind,
        }
        for kind, (needed, optional) in KINDS.items()
    ]
    for kind, body in zip(KINDS, kinds, strict=True):
        body["properties"] |= {"kind": _field(f"the kind {kind}", const=kind)}
    attributes = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {"oneOf": kinds},
    }
    table = _object(TABLE, {field.name for field in fields(TableFormat)}, set())
    image = _object(IMAGE, set(image_rules.RULES), image_rules.REQUIRED)
    top = _object(FIELDS, TOP, TOP - OPTIONAL)
    for key, body in (("table", table), ("image", image), ("attributes", attributes)):
        top["properties"][key] = {**FIELDS[key], **body}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "schema.yaml of dp-tabimage",
        "description": "The public contract of a data set; nothing in it derives from records.",
        **top,
    }


def _object(
    known: Mapping[str, dict[str, Any]], keys: Collection[str], required: Collection[str]
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {key: known[key] for key in known if key in keys},
        "required": sorted(required),
        "additionalProperties": False,
    }
