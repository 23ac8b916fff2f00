"""Drafts of schema.yaml and population.yaml, with a marked blank for each public fact.

What the form of the folder shows is filled in, such as column names and Parquet types; what only
the owner of the data can state is a blank. Each line explains itself. The explanations of
schema.yaml are the descriptions of its JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from dagster_project.data.blanks import BLANK
from dagster_project.starting.folder import Kind, Look, Table
from dagster_project.starting.json_schema import ATTRIBUTE, IMAGE, TOP

HEAD = f"""\
# The public contract of the data, drafted from file types, column names and Parquet
# types{{source}}.
# Replace each {BLANK} by a public fact, never by anything that was computed from private records,
# and correct what does not fit. No command runs while a blank is left.
"""
POPULATION = f"""\
# Whose privacy is counted, and where. Keep this file in version control, beside the data.
# Replace each {BLANK}. No command runs while a blank is left.
population: {{name}}  # name of these people, of letters, digits, '.', '_' or '-'
unit: person  # what one member is; nothing else is accounted for
relation: add_remove  # neighbouring data differ in one person
lifetime_epsilon: {BLANK}  # what all releases together may cost a person, such as 10.0
target_delta: 1.0e-6  # below 1 / n_public
n_public: {{n_public}}  # {TOP["n_public"]["description"].replace("population", "schema")}
ledger: ledger/ledger.sqlite  # outside the clone if the data are not public
anchor: null  # written by `dptabimage ledger anchor`
"""
_WORDS = re.compile(r"[a-z]+|\d+")
_PERSON = {
    *("patient", "person", "subject", "participant", "identity", "individual", "mrn", "pid"),
    *("patients", "user", "donor", "case"),
}
_IMAGE = {"image", "img", "file", "filename", "path", "picture", "photo", "dicom", "scan"}
_KEY = {"id", "no", "nr", "number", "code", "key", "index", "name"}
_PROSE = {
    *("surname", "firstname", "lastname", "address", "street", "phone", "email", "ssn"),
    *("comment", "comments", "note", "notes", "remark", "remarks", "report", "description", "text"),
}
_NUMBER = {"age", "weight", "height", "bmi", "year", "count", "dose", "score", "size", "duration"}
_EDGES = {"age": "[0, 20, 40, 60, 80, 120]", "year": "[1990, 2000, 2010, 2020, 2030]"}


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
        domains: Attributes whose domains a public sample gave.
    """
    columns = look.table.columns
    people = [name for name in columns if name_fits(name) and _named(name, _PERSON)]
    image = image_column(look.table)
    left_out = [name for name in columns if not name_fits(name) or _is_prose(name)]
    rest = [name for name in columns if name not in {*people, image, *left_out}]
    source = "; of values, only those of the public sample" if domains else ", not from any value"
    lines = [f"# yaml-language-server: $schema={json_schema}"]
    lines += HEAD.format(source=source).splitlines()
    for key in ("name", "public", "population", "n_public", "person_id", "person_id_rule"):
        default = {"public": "false", "person_id_rule": "exact"}.get(key, BLANK)
        value = scalar(known[key]) if key in known else default
        about = TOP[key]["description"]
        if key == "person_id" and people:
            about += f"; by its name: {' or '.join(people)}"
        lines.append(f"{key}: {value}  # {about}")
    lines.append("image:")
    for key, field in IMAGE.items():
        value = scalar(image) if key == "column" and image else BLANK
        lines.append(f"  {key}: {value}  # {field['description']}")
    lines.append(
        f"attributes:  # {TOP['attributes']['description']}; delete those not to be learnt"
    )
    for name in rest:
        lines.append(f"  {scalar(name)}:")
        body = (domains or {}).get(name)
        fields = _stated(body) if body else _asked(name, columns[name])
        lines += [f"    {line}" for line in fields]
    return "\n".join(lines) + "\n"


def population_text(known: Mapping[str, object]) -> str:
    """Return the draft of population.yaml; `known` as in `schema_text`."""
    return POPULATION.format(
        name=known.get("population", BLANK), n_public=known.get("n_public", BLANK)
    )


def image_column(table: Table) -> str | None:
    """Return the column that holds or names the images, if exactly one looks like it."""
    for found in (
        [name for name, kind in table.columns.items() if kind == "image"],
        [name for name in table.columns if name_fits(name) and _named(name, _IMAGE)],
    ):
        if len(found) == 1:
            return found[0]
    return None


def words(name: str) -> set[str]:
    """Return the words of a column name: those of PatientID are patient and id."""
    return set(_WORDS.findall(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))


def scalar(value: object) -> str:
    """Return a value as it is written on one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n...\n").removesuffix("\n")


def _named(name: str, what: set[str]) -> bool:
    """Whether a column is called so: patient, PatientID or patient_no, but not patient_age."""
    found = words(name)
    return bool(found & what) and found <= what | _KEY


def _is_prose(name: str) -> bool:
    """Whether a column holds free text or an address by its name, so that it cannot be learnt."""
    return bool(_PROSE & words(name)) or ("name" in words(name) and not _named(name, _IMAGE))


def _stated(body: Mapping[str, Any]) -> Iterator[str]:
    for key, value in body.items():
        yield f"{key}: {scalar(value)}"


def _asked(name: str, kind: Kind) -> Iterator[str]:
    """Yield the lines of an attribute whose domain is a blank."""
    if kind == "boolean":
        yield "kind: categorical"
        yield "categories: ['False', 'True']"
        yield f"missing: true  # {ATTRIBUTE['missing']['description']}"
        return
    numeric = kind in ("number", "integer") or bool(_NUMBER & words(name))
    if numeric:
        shown = next((edges for word, edges in _EDGES.items() if word in words(name)), None)
        about = ATTRIBUTE["edges"]["description"].partition(", such")[0]
        yield "kind: numeric  # or categorical, with a list of categories, if the numbers are codes"
        yield f"edges: [{BLANK}]  # {about}, such as {shown or '[0, 10, 100]'}"
        yield f"out_of_domain: clamp  # {ATTRIBUTE['out_of_domain']['description']}"
    else:
        yield "kind: categorical  # or numeric, with edges in place of categories"
        yield f"categories: [{BLANK}]  # {ATTRIBUTE['categories']['description']}"
        yield f"out_of_domain: drop  # {ATTRIBUTE['out_of_domain']['description']}"
    yield f"missing: true  # {ATTRIBUTE['missing']['description']}"
