"""Drafts of schema.yaml and population.yaml, with a marked blank for each public fact.

What the form of the folder shows is filled in, such as column names and Parquet types; what only
the owner of the data can state is a blank. Each line explains itself: the explanations of
schema.yaml are the descriptions of its JSON Schema. A column's name alone suggests its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dagster_project.data.blanks import BLANK
from dagster_project.starting import names
from dagster_project.starting.folder import Kind, Look, Table
from dagster_project.starting.json_schema import ATTRIBUTE, FIELDS, IMAGE, TABLE

_HEAD = f"""\
# The public contract of the data, drafted from file types, column names and Parquet types
# alone{{source}}. Replace each {BLANK} by a public fact, never by anything computed from
# private records, and correct what does not fit. No command runs while a blank is left.
"""
_POPULATION = f"""\
# Whose privacy is counted, and where. Keep this file in version control, beside the data.
# Replace each {BLANK}. No command runs while a blank is left.
population: {{name}}  # name of these people: letters, digits, '.', '_' or '-'
unit: person  # what one member is; nothing else is accounted for
relation: add_remove  # neighbouring data differ in one person
lifetime_epsilon: {BLANK}  # what all releases together may cost a person, such as 10.0
target_delta: 1.0e-6  # below 1 / n_public
n_public: {{n_public}}  # rough number of people that anybody may know; the same in schema.yaml
ledger: ledger/ledger.sqlite  # outside the clone if the data are not public
anchor: null  # written by `dptabimage ledger anchor`
"""
_DEFAULTS = {"public": False, "person_id_rule": "exact"}
_DEEP = (".dcm", ".tif", ".tiff")  # formats that usually hold more than 8 bits
_MORE_KINDS = "or boolean, date, numeric, or labels (several in a cell, such as A|B)"


def schema_text(
    look: Look,
    *,
    json_schema: str,
    known: Mapping[str, object],
    domains: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return the draft of schema.yaml.

    Args:
        look: The form of the folder.
        json_schema: Where the JSON Schema lies, for editors.
        known: Public facts that are known, of name, population and n_public.
        domains: Declarations by column that a public sample gave.
    """
    columns = look.table.columns
    people = [column for column in columns if names.is_person(column)]
    image = image_column(look.table)
    ignored = [column for column in columns if names.is_prose(column) or not column]
    rest = [column for column in columns if column not in {*people, image, *ignored}]
    source = " and from a public sample" if domains else ""
    lines = [f"# yaml-language-server: $schema={json_schema}"]
    lines += _HEAD.format(source=source).splitlines()
    for key in ("name", "public", "population", "n_public", "person_id", "person_id_rule"):
        about = FIELDS[key]["description"]
        if key == "person_id" and people:
            about += f"; by its name: {' or '.join(people)}"
        lines.append(_line(key, known.get(key, _DEFAULTS.get(key, BLANK)), about))
    lines += ["table:", *_indented(_table(look.table, ignored))]
    lines += ["image:", *_indented(_image(look, image))]
    lines.append(f"attributes:  # {FIELDS['attributes']['description']}; ignore those not to learn")
    for column in rest:
        name = names.attribute_name(column)
        lines.append(f"  {scalar(name)}:")
        body = (domains or {}).get(column)
        fields = [] if name == column else [f"column: {scalar(column)}"]
        fields += _stated(body) if body else _asked(column, columns[column])
        lines += _indented(_indented(fields))
    return "\n".join(lines) + "\n"


def population_text(known: Mapping[str, object]) -> str:
    """Return the draft of population.yaml; `known` as in `schema_text`."""
    return _POPULATION.format(
        name=known.get("population", BLANK), n_public=known.get("n_public", BLANK)
    )


def image_column(table: Table) -> str | None:
    """Return the column that holds or names the images, if exactly one looks like it."""
    for found in (
        [column for column, kind in table.columns.items() if kind == "image"],
        [column for column in table.columns if names.is_image(column)],
    ):
        if len(found) == 1:
            return found[0]
    return None


def scalar(value: object) -> str:
    """Return a value as it is written on one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n...\n").removesuffix("\n")


def _line(key: str, value: object, about: str) -> str:
    return f"{key}: {scalar(value)}  # {about}"


def _indented(lines: Iterator[str] | list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _table(table: Table, ignored: list[str]) -> Iterator[str]:
    facts: dict[str, object] = {}
    if table.delimiter:
        decimal = BLANK if table.delimiter == ";" else "."
        facts = {"delimiter": table.delimiter, "encoding": table.encoding, "decimal": decimal}
    for key, value in {**facts, "missing_values": [], "ignore": ignored}.items():
        yield _line(key, value, TABLE[key]["description"])


def _image(look: Look, column: str | None) -> Iterator[str]:
    about = IMAGE["column"]["description"]
    if column is None:
        about += "; if there is none, write image: the person id then names the files"
    yield _line("column", column or BLANK, about)
    for key in ("channels", "height", "width"):
        yield _line(key, BLANK, IMAGE[key]["description"])
    if any(suffix in _DEEP for suffix in look.pictures):
        yield f"window: {{low: {BLANK}, high: {BLANK}}}  # {IMAGE['window']['description']}"
    elif ".png" in look.pictures:
        about = IMAGE["window"]["description"].partition(":")[0]
        yield f"# window: {{low: 0, high: 4095}}  # {about}"
    if look.pictures:
        yield f"# file: '{{name}}{look.pictures[0]}'  # {IMAGE['file']['description']}"
        yield f"# separator: '\\'  # {IMAGE['separator']['description']}; / by default"
        yield f"# strip_prefix: 'H:\\export'  # {IMAGE['strip_prefix']['description']}"
    if look.links:
        yield _line("link_cache", BLANK, IMAGE["link_cache"]["description"])


def _stated(body: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {scalar(value)}" for key, value in body.items()]


def _asked(column: str, kind: Kind) -> list[str]:
    """Return the lines of an attribute whose domain is a blank."""
    missing = _line("missing", True, ATTRIBUTE["missing"]["description"])
    policy = ATTRIBUTE["out_of_domain"]["description"]
    if kind == "boolean":
        return ["kind: boolean", missing]
    if kind == "date" or (kind in ("text", "unknown") and names.is_date(column)):
        form = (
            [] if kind == "date" else [_line("format", BLANK, ATTRIBUTE["format"]["description"])]
        )
        edges = (
            f"edges: [{BLANK}]  # bounds of periods, such as [2015-01-01, 2020-01-01, 2025-01-01]"
        )
        return ["kind: date", edges, *form, _line("out_of_domain", "clamp", policy), missing]
    if kind in ("number", "integer") or names.is_number(column):
        whole = _line("integer", True, ATTRIBUTE["integer"]["description"])
        about = ATTRIBUTE["edges"]["description"]
        return [
            "kind: numeric  # or categorical, if numbers are codes, or age, with a unit, for 047Y",
            f"edges: [{BLANK}]  # {about}",
            *([] if kind == "number" else [whole if kind == "integer" else f"# {whole}"]),
            _line("out_of_domain", "clamp", policy),
            missing,
        ]
    return [
        f"kind: categorical  # {_MORE_KINDS}",
        f"categories: [{BLANK}]  # {ATTRIBUTE['categories']['description']}",
        _line("out_of_domain", "drop", policy),
        missing,
    ]
