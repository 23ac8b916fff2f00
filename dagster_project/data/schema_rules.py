"""The rules of a schema.yaml, with one clear sentence for each fault.

The types that are built from a valid schema are in `schema`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from dagster_project.data.blanks import blanks, unfilled

MISSING = "missing"
FALLBACK = "fallback:"
MAX_CELLS = 1000

_NAME = re.compile(r"\w[\w .\-]{0,63}")
_TOP = {
    "name",
    "public",
    "population",
    "person_id",
    "person_id_rule",
    "n_public",
    "image",
    "attributes",
}
_OPTIONAL = {"public", "population", "person_id_rule"}
_IMAGE = {"column", "channels", "height", "width"}
_ATTRIBUTE = {"kind", "categories", "edges", "missing", "out_of_domain"}


class SchemaError(ValueError):
    """The schema itself is wrong; the message is one sentence that names the fault."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """A loader that refuses duplicate keys, of which YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, Hashable):
                raise SchemaError("A key in the schema is not a plain name.")
            if keys.count(key) > 1:
                raise SchemaError(f"The key {str(key)!r} occurs twice in one section.")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file, checked only for duplicate keys.

    Raises:
        SchemaError: The file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except SchemaError:
        raise
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise SchemaError(f"{path.name} cannot be read: {reason}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise SchemaError(f"{path.name} is not valid YAML{where}.") from None


def schema_faults(content: Any) -> list[str]:
    """Return every fault of a schema's content, one sentence each."""
    if not isinstance(content, Mapping):
        return ["The schema must be a mapping of keys to values."]
    if places := blanks(content):
        return [unfilled({"schema.yaml": places}) + "."]
    faults: list[str] = []

    def attempt(rule: Callable[..., Any], *arguments: Any) -> None:
        try:
            rule(*arguments)
        except SchemaError as fault:
            faults.append(str(fault))

    attempt(_section, content, "the schema", _TOP, _TOP - _OPTIONAL)
    image, attributes = content.get("image"), content.get("attributes")
    if "image" in content:
        attempt(_section, image, "image", _IMAGE, _IMAGE)
    for section, where, rules in ((content, "", _TOP_RULES), (image, "image: ", _IMAGE_RULES)):
        for key, rule in rules.items():
            if isinstance(section, Mapping) and key in section:
                attempt(rule, section[key], where + key)
    if isinstance(attributes, Mapping) and attributes:
        for name, body in attributes.items():
            attempt(attribute_fields, name, body)
        columns = [content.get("person_id"), *attributes]
        columns += [image.get("column")] if isinstance(image, Mapping) else []
        if any(columns.count(column) > 1 for column in columns):
            faults.append("person_id, the image column and the attributes need distinct names.")
    elif "attributes" in content:
        faults.append("attributes must map at least one attribute name to its domain.")
    return faults


def attribute_fields(name: Any, body: Any) -> dict[str, Any]:
    """Return the checked fields of one attribute, including all defaults.

    Raises:
        SchemaError: Something is wrong.
    """
    name = _name(name, "an attribute")
    body = {
        "missing": False,
        "out_of_domain": "drop",
        **_section(body, f"attribute {name!r}", _ATTRIBUTE, {"kind"}),
    }
    _flag(body["missing"], f"attribute {name!r}: missing")
    if body["kind"] == "categorical":
        domain, unused = "categories", "edges"
    elif body["kind"] == "numeric":
        domain, unused = "edges", "categories"
    else:
        raise SchemaError(f"attribute {name!r}: kind must be categorical or numeric.")
    if unused in body or not isinstance(body.get(domain), list):
        raise SchemaError(f"attribute {name!r} is {body['kind']} and needs a list of {domain}.")
    check = _categories if domain == "categories" else _edges
    fields = {**body, "name": name, domain: check(name, body[domain], body["missing"])}
    cells = len(fields[domain]) - (domain == "edges") + body["missing"]
    if not 2 <= cells <= MAX_CELLS:
        raise SchemaError(
            f"attribute {name!r} has {max(cells, 0)} cells and needs 2 to {MAX_CELLS}."
        )
    _policy(fields)
    return fields


def _categories(name: str, given: list[Any], missing: bool) -> tuple[str, ...]:
    for category in given:
        if isinstance(category, bool) or not isinstance(category, str | int):
            raise SchemaError(
                f"attribute {name!r}: the category {category!r:.40} must be text; quote it."
            )
        text = str(category)
        if not text.strip() or text != text.strip() or len(text) > 100 or not text.isprintable():
            raise SchemaError(
                f"attribute {name!r}: a category must be 1 to 100 printable characters without "
                "outer spaces."
            )
    categories = tuple(map(str, given))
    if len(set(categories)) < len(categories):
        raise SchemaError(f"attribute {name!r} lists a category twice.")
    if missing and MISSING in categories:
        raise SchemaError(f"attribute {name!r}: {MISSING!r} is both a category and the extra cell.")
    return categories


def _edges(name: str, given: list[Any], missing: bool) -> tuple[float, ...]:
    edges = []
    for edge in given:
        if isinstance(edge, bool) or not isinstance(edge, int | float):
            raise SchemaError(f"attribute {name!r}: the edge {edge!r:.40} is not a number.")
        if not abs(edge) <= 1e30:  # also refuses NaN; values are kept in single precision
            raise SchemaError(f"attribute {name!r}: edges must be finite and below 1e30.")
        edges.append(float(edge))
    if any(not low < high for low, high in pairwise(edges)):
        raise SchemaError(f"attribute {name!r}: edges must increase.")
    return tuple(edges)


def _policy(fields: dict[str, Any]) -> None:
    name, policy = fields["name"], fields["out_of_domain"]
    numeric = fields["kind"] == "numeric"
    known = (
        policy == "drop"
        or (policy == "clamp" and numeric)
        or (policy == MISSING and fields["missing"])
        or (
            isinstance(policy, str)
            and not numeric
            and policy.startswith(FALLBACK)
            and policy.removeprefix(FALLBACK) in fields["categories"]
        )
    )
    if not known:
        other = "clamp" if numeric else "fallback:<one of the categories>"
        raise SchemaError(
            f"attribute {name!r}: out_of_domain must be drop, {other}, "
            "or missing where missing is true."
        )


def _section(content: Any, where: str, allowed: set[str], required: set[str]) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise SchemaError(f"{where} must be a mapping of keys to values.")
    unknown = sorted(str(key)[:40] for key in content if key not in allowed)
    if unknown:
        raise SchemaError(f"{where} has an unknown key: {', '.join(unknown)}.")
    absent = sorted(required - set(content))
    if absent:
        raise SchemaError(f"{where} lacks {', '.join(absent)}.")
    return content


def name_fits(given: Any) -> bool:
    """Whether a text may be the name of a data set or a column."""
    return isinstance(given, str) and _NAME.fullmatch(given) is not None


def _name(given: Any, where: str) -> str:
    if not name_fits(given):
        raise SchemaError(
            f"{where}: a name is 1 to 64 letters, digits, spaces, dots, hyphens or underscores "
            f"and starts with a letter or digit; {given!r:.40} is not."
        )
    return str(given)


def _integer(given: Any, where: str, low: int, high: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise SchemaError(f"{where} must be a whole number from {low} to {high}.")
    return given


def _flag(given: Any, where: str) -> bool:
    if not isinstance(given, bool):
        raise SchemaError(f"{where} must be true or false.")
    return given


def _id_rule(given: Any, where: str) -> str:
    if given not in ("exact", "integer"):
        raise SchemaError(f"{where} must be exact, or integer if 0012 and 12 are one person.")
    return given


def _channels(given: Any, where: str) -> int:
    if isinstance(given, bool) or given not in (1, 3):
        raise SchemaError(f"{where} must be 1 (grey) or 3 (RGB).")
    return given


_TOP_RULES: dict[str, Callable[[Any, str], Any]] = {
    "name": _name,
    "public": _flag,
    "population": _name,
    "person_id": _name,
    "person_id_rule": _id_rule,
    "n_public": partial(_integer, low=1, high=10**10),
}
_IMAGE_RULES: dict[str, Callable[[Any, str], Any]] = {
    "column": _name,
    "channels": _channels,
    "height": partial(_integer, low=8, high=64),
    "width": partial(_integer, low=8, high=64),
}
