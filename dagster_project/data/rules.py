"""Checks of single fields that the sections of a schema.yaml share.

Each takes a value and where it stands, and raises one clear sentence. The sections themselves are
in `schema_rules` and `image_rules`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NAME = re.compile(r"\w[\w .\-]{0,63}")


class SchemaError(ValueError):
    """The schema itself is wrong; the message is one sentence that names the fault."""


def section(content: Any, where: str, allowed: set[str], required: set[str]) -> Mapping[str, Any]:
    """Return a mapping that has all required keys and no unknown one."""
    if not isinstance(content, Mapping):
        raise SchemaError(f"{where} must be a mapping of keys to values.")
    unknown = sorted(str(key)[:40] for key in content if key not in allowed)
    if unknown:
        raise SchemaError(f"{where} has an unknown key: {', '.join(unknown)}.")
    absent = sorted(required - set(content))
    if absent:
        raise SchemaError(f"{where} lacks {', '.join(absent)}.")
    return content


def plain_name(given: Any, where: str) -> str:
    """Return a name that is safe in files, tables and pages."""
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise SchemaError(
            f"{where}: a name is 1 to 64 letters, digits, spaces, dots, hyphens or underscores "
            f"and starts with a letter or digit; {given!r:.40} is not."
        )
    return given


def integer(given: Any, where: str, low: int, high: int) -> int:
    """Return a whole number within bounds."""
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise SchemaError(f"{where} must be a whole number from {low} to {high}.")
    return given


def flag(given: Any, where: str) -> bool:
    """Return a truth value."""
    if not isinstance(given, bool):
        raise SchemaError(f"{where} must be true or false.")
    return given


def one_of(given: Any, where: str, words: tuple[str, ...]) -> str:
    """Return one of a few words."""
    if given not in words:
        raise SchemaError(f"{where} must be {' or '.join(words)}.")
    return str(given)
