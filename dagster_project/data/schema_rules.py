"""The rules of a schema.yaml, with one clear sentence for each fault.

The types that are built from a valid schema are in `schema`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from dagster_project.data import image_rules
from dagster_project.data.attribute_rules import attributes as attributes_of
from dagster_project.data.blanks import blanks, unfilled
from dagster_project.data.rules import SchemaError, flag, integer, plain_name, section
from dagster_project.data.table_format import STANDARD
from dagster_project.data.table_rules import column_name, table_format

TOP = {
    "name", "public", "population", "person_id", "person_id_rule", "n_public", "table", "image",
    "attributes",
}  # fmt: skip
OPTIONAL = {"public", "population", "person_id_rule", "table"}
# Where texts are expected, YAML's numbers, dates and truth values are texts as they are written.
_TEXTS = {
    "name", "population", "person_id", "person_id_rule", "column", "delimiter", "encoding",
    "decimal", "thousands", "suffix", "format", "ignore", "missing_values", "categories", "aliases",
    "true_values", "false_values", "labels", "separator", "none", "out_of_domain",
}  # fmt: skip
_TEXT_TAG = "tag:yaml.org,2002:str"
_TRAP = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-9_]+)+(\.[0-9_]*)?)")


class _SchemaLoader(yaml.SafeLoader):
    """A loader without YAML's traps.

    Duplicate keys are refused, of which YAML silently takes the last. Texts stay as they are
    written, so that [001, no, 1.0] are three texts and not 1, false and a number. Elsewhere, what
    YAML reads as a number to another base is refused.
    """

    def get_single_node(self) -> yaml.Node:
        """Return the root of the document, in which texts are marked as such."""
        root = super().get_single_node()
        _keep_texts(root)
        for key, part in _items(root):
            if key.value != "attributes":
                _keep_texts(part)
            for name, body in _items(part) if key.value == "attributes" else ():
                _as_written(name)
                _keep_texts(body)
        return root

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, Hashable):
                raise SchemaError("A key in the schema is not a plain name.")
            if keys.count(key) > 1:
                raise SchemaError(f"The key {str(key)!r} occurs twice in one section.")
        return super().construct_mapping(node, deep)

    def plain_number(self, node: yaml.ScalarNode) -> int | float:
        """Return a number, unless YAML reads it otherwise than people do."""
        if _TRAP.fullmatch(node.value):
            raise SchemaError(
                f"Line {node.start_mark.line + 1}: YAML does not read {node.value:.40} as the "
                "decimal number that it looks like; write it without leading zeros and colons."
            )
        whole = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)


for _tag in ("int", "float"):
    _SchemaLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _SchemaLoader.plain_number)


def _items(node: yaml.Node) -> list[tuple[yaml.Node, yaml.Node]]:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _keep_texts(section: yaml.Node) -> None:
    """Mark the texts of one section, and read its edges as people do."""
    for key, value in _items(section):
        if isinstance(key, yaml.ScalarNode) and key.value in _TEXTS:
            _as_written(value)
        elif key.value == "edges" and isinstance(value, yaml.SequenceNode):
            for edge in value.value:
                _decimal_or_text(edge)


def _as_written(node: yaml.Node) -> None:
    """Make every scalar below a node a text, except for an absent one."""
    if isinstance(node, yaml.ScalarNode):
        node.tag = _TEXT_TAG if node.value or node.style else node.tag
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _as_written(item)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for item in pair:
                _as_written(item)


def _decimal_or_text(node: yaml.Node) -> None:
    """Make an unquoted decimal number what it looks like, and any other scalar a text."""
    if not isinstance(node, yaml.ScalarNode):
        return
    if node.style is None and re.fullmatch(r"[-+]?[0-9]{1,300}", node.value):
        node.tag, node.value = "tag:yaml.org,2002:int", str(int(node.value))
    elif node.style is None and re.fullmatch(r"[-+]?[0-9.]{1,300}(e[-+]?[0-9]{1,3})?", node.value):
        node.tag = "tag:yaml.org,2002:float"
    else:
        node.tag = _TEXT_TAG


def read_yaml(path: Path) -> Any:
    """Return the content of a schema.yaml, checked only for YAML's traps (`_SchemaLoader`).

    Raises:
        SchemaError: The file cannot be read or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_SchemaLoader)
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

    def attempt(rule: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return rule(*arguments)
        except SchemaError as fault:
            faults.append(str(fault))
            return None

    attempt(section, content, "the schema", TOP, TOP - OPTIONAL)
    image, attributes = content.get("image"), content.get("attributes")
    if "image" in content:
        attempt(section, image, "image", set(image_rules.RULES), image_rules.REQUIRED)
    for part, where, rules in ((content, "", _TOP_RULES), (image, "image: ", image_rules.RULES)):
        for key, rule in rules.items():
            if isinstance(part, Mapping) and key in part:
                attempt(rule, part[key], where + key)
    table = attempt(table_format, content["table"]) if "table" in content else STANDARD
    if isinstance(attributes, Mapping) and attributes:
        columns = [content.get("person_id")]
        columns += [image.get("column")] if isinstance(image, Mapping) else []
        names: list[str] = []
        for name, body in attributes.items():
            made = attempt(attributes_of, name, body, table or STANDARD)
            names += [attribute.name for attribute in made or ()]
            columns += [made[0].column] if made else []
        if len(set(names)) < len(names) or any(columns.count(column) > 1 for column in columns):
            faults.append("person_id, the image column and the attributes need distinct names.")
    elif "attributes" in content:
        faults.append("attributes must map at least one attribute name to its domain.")
    return faults


def _id_rule(given: Any, where: str) -> str:
    if not isinstance(given, str) or not re.fullmatch(r"exact|integer|[1-9]\d? digits", given):
        raise SchemaError(
            f"{where} must be exact, integer if 0012 and 12 are one person, or such as 5 digits if "
            "whole numbers lost the zeros before them."
        )
    return given


_TOP_RULES: dict[str, Callable[[Any, str], Any]] = {
    "name": plain_name,
    "public": flag,
    "population": plain_name,
    "person_id": column_name,
    "person_id_rule": _id_rule,
    "n_public": partial(integer, low=1, high=10**10),
}
