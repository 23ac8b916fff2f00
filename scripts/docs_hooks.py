"""Pages of the documentation that are generated: MkDocs calls `on_files` for each build.

The command reference comes from the parsers and the settings reference from the recipe, so neither
can differ from the code. The start page, the guide for contributors and the change log are the
files that stand in the root of the repository.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
COPIED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages to those in docs/."""
    from mkdocs.structure.files import File

    pages = {target: copied(source) for source, target in COPIED.items()}
    pages |= {"reference/commands.md": commands(), "reference/settings.md": settings()}
    pages["reference/schema.json"] = schema()
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def copied(source: str) -> str:
    """A page of the root, with its links as they must be from within docs/."""
    text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
    for name, target in COPIED.items():
        text = text.replace(f"]({name}", f"]({target}")
    return text.replace("[LICENSE](LICENSE)", "`LICENSE`")


def commands() -> str:
    """The command reference, as Markdown."""
    from dagster_project.cli.main import build_parser

    os.environ["COLUMNS"] = "96"  # argparse breaks its lines by this
    parts = [
        "# Commands",
        "This page is generated from the command line's own parsers. Exit codes: 0 done, 2 the "
        "request or the form of the data is wrong, 3 the budget or the ledger refuses, 4 a stage "
        "failed. Numbers and lists are given to `--set` as JSON: `--set dp_sgd.steps=100`, "
        "`--set network.channels=[64,128]`.",
    ]
    for parser in _leaves(build_parser()):
        parts += [f"## {parser.prog}", _sentence(parser.description or "")]
        usage = parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n").strip()
        parts.append(f"```text\n{usage}\n```")
        rows = [_argument(action) for action in parser._actions if action.dest != "help"]
        if rows:
            parts.append(_table(("argument", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def schema() -> str:
    """The JSON Schema of schema.yaml, for editors."""
    from dagster_project.starting.json_schema import json_schema

    return json.dumps(json_schema(), indent=1) + "\n"


def settings() -> str:
    """The settings reference, as Markdown."""
    from dagster_project.settings.presets import DEFAULT, PRESETS
    from dagster_project.settings.recipe import Recipe

    parts = [
        "# Settings",
        "This page is generated from `dagster_project/settings/recipe.py`. Every setting is public "
        "and is changed by its dotted name, such as `--set dp_sgd.steps=200`. Noise is not a "
        "setting: it is solved from ε and δ. `null` (`None` in Python) leaves it to a rule.",
    ]
    loose = []
    for name, field in Recipe.model_fields.items():
        section = field.annotation
        if inspect.isclass(section) and hasattr(section, "model_fields"):
            parts += _section(name, section)
        else:
            kind = _kind(Recipe.model_json_schema()["properties"][name])
            loose.append((f"`{name}`", kind, f"`{json.dumps(field.default)}`", ""))
    parts += ["## Without a section", _table(_COLUMNS, loose), "## Presets"]
    parts.append("What each preset changes of the default (see [Presets](../presets.md)).")
    default = dict(_flat(PRESETS[DEFAULT].model_dump(mode="json")))
    for name, recipe in PRESETS.items():
        changed = [
            (f"`{setting}`", f"`{json.dumps(default[setting])}`", f"`{json.dumps(value)}`")
            for setting, value in _flat(recipe.model_dump(mode="json"))
            if default[setting] != value
        ]
        if changed:
            parts += [f"### {name}", _table(("setting", "default", f"in `{name}`"), changed)]
    return "\n\n".join(parts) + "\n"


_COLUMNS = ("setting", "value", "default", "meaning")


def _section(name: str, section: type[BaseModel]) -> list[str]:
    about, fields = _docstring(section)
    shapes, rows = section.model_json_schema()["properties"], []
    defaults = section().model_dump(mode="json")
    for field, shape in shapes.items():
        default = f"`{json.dumps(defaults[field])}`"
        rows.append((f"`{name}.{field}`", _kind(shape), default, fields.get(field, "")))
    return [f"## {name}", about, _table(_COLUMNS, rows)]


def _docstring(section: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """What a docstring says of the whole, and of each attribute."""
    about, _, listed = (inspect.getdoc(section) or "").partition("\n\nAttributes:\n")
    fields = {}
    for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {8}.*)*)", listed, re.MULTILINE):
        for field in names.split(", "):
            fields[field] = " ".join(text.split())
    return " ".join(about.split()), fields


def _kind(shape: Mapping[str, Any]) -> str:
    """The allowed values of a JSON schema, in words."""
    if "anyOf" in shape:
        return " or ".join(_kind(one) for one in shape["anyOf"])
    if "enum" in shape or "const" in shape:
        values = shape.get("enum", [shape.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if shape["type"] == "array":
        return f"list of {_kind(shape['items'])}"
    bounds = [
        f"{sign} {shape[key]:g}"
        for key, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", "≥"),
            ("exclusiveMaximum", "<"),
            ("maximum", "≤"),
        )
        if key in shape
    ]
    return " ".join([shape["type"], ", ".join(bounds)]).strip()


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """All parsers below that have no commands of their own."""
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for child in group.choices.values():
            yield from _leaves(child)


def _argument(action: argparse.Action) -> tuple[str, str, str]:
    taken = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    if action.choices is not None:
        taken = "{" + ",".join(map(str, action.choices)) + "}"
    name = " ".join(filter(None, [", ".join(action.option_strings), str(taken)]))
    shown = "required" if action.required else ""
    default = action.default
    if action.option_strings and default not in (None, False, [], "", argparse.SUPPRESS):
        items = default if isinstance(default, tuple) else (default,)
        shown = "`" + ",".join(f"{x:g}" if isinstance(x, float) else str(x) for x in items) + "`"
    return f"`{name}`", shown, _sentence(action.help or "")


def _sentence(text: str) -> str:
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    cells = [columns, ("---",) * len(columns), *rows]
    return "\n".join("| " + " | ".join(row).replace("\n", " ") + " |" for row in cells)
