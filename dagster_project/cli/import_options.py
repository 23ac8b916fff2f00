"""The options of single formats of `import`, and how their texts are read."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any


def size_of(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH, or one number for both."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found or not all(8 <= int(side) <= 64 for side in found.groups() if side):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, each from 8 to 64")
    return int(found[1]), int(found[2] or found[1])


def names_of(text: str) -> tuple[str, ...]:
    """Read names that are separated by commas."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
    return names


def workers_of(text: str) -> int:
    """Read a number of threads."""
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads from 1 to 64")
    return int(text)


def _folders(text: str) -> tuple[Path, ...]:
    return tuple(map(Path, names_of(text)))


def _categories(text: str) -> tuple[str, tuple[str, ...]]:
    column, equals, names = text.partition("=")
    if not column or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=A,B,...")
    return column, names_of(names)


def _edges(text: str) -> tuple[str, tuple[float, ...]]:
    column, names = _categories(text)
    try:
        edges = tuple(float(name) for name in names)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=0,10,...") from None
    return column, tuple(int(edge) if edge.is_integer() else edge for edge in edges)


OPTIONS: dict[str, dict[str, Any]] = {
    "unit": {
        "choices": ("person", "image"),
        "help": "what counts as one person: a patient, identity or item, or each image",
    },
    "attributes": {"metavar": "A,B,...", "help": "attributes to keep instead of the default ones"},
    "label_name": {"metavar": "NAME", "help": "name of the class label"},
    "classes": {"metavar": "A,B,...", "help": "names of the classes, in label order"},
    "person_id": {"metavar": "WHICH", "help": "what identifies the person"},
    "image_column": {"metavar": "NAME", "help": "column of the images"},
    "by_position": {
        "action": "store_true",
        "help": "number the people in row order; only if nothing names them and rows never move",
    },
    "categories": {
        "metavar": "COLUMN=A,B,...",
        "action": "append",
        "type": _categories,
        "help": "keep a column with these categories",
    },
    "edges": {
        "metavar": "COLUMN=0,10,...",
        "action": "append",
        "type": _edges,
        "help": "keep a column of numbers with these bin edges",
    },
    "schema": {
        "type": Path,
        "metavar": "FILE",
        "help": "schema.yaml that declares table, images and attributes (see `dptabimage init`)",
    },
    "images": {
        "metavar": "DIR,...",
        "type": _folders,
        "help": "folders of the image files (default: images/ beside the table, and its folder)",
    },
    "file_column": {"metavar": "NAME", "help": "column that names the image files"},
    "file_pattern": {
        "metavar": "PATTERN",
        "help": "how a name becomes a file's name, such as '{name}.jpg' or '{name:5}.png'",
    },
    "name_pattern": {
        "metavar": "REGEX",
        "help": "columns from file names, such as '(?P<age>[0-9]+)_(?P<sex>[01])_'",
    },
    "strip_prefix": {"metavar": "FOLDERS", "help": "leading folders to remove from file names"},
    "separator": {"metavar": "TEXT", "help": "what separates fields: , ; | or tab"},
    "encoding": {"metavar": "NAME", "help": "utf-8 (the default), utf-16, cp1252 or latin-1"},
    "decimal": {"choices": (".", ","), "help": "decimal sign (default: .)"},
    "missing_values": {"metavar": "A,B,...", "help": "texts that mean an empty cell"},
    "ignore": {"metavar": "A,B,...", "help": "columns not to be used"},
}
PERSON_ID = {
    "imagefolder": "pattern that finds the person in an image's path, such as '(p[0-9]+)_'",
    "huggingface": "column that identifies the person",
    "table": "column, or group of --name-pattern, that identifies the person",
}
