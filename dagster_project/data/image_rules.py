"""The rules of a schema's `image` section, with one clear sentence for each fault."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from dagster_project.data.rules import SchemaError, integer, one_of, plain_name, section

PLACE = re.compile(r"\{(name|stem)(?::(lower|upper|[1-9]\d?))?\}")
MOST_PATTERNS = 8
REQUIRED = {"column", "channels", "height", "width"}


def channels(given: Any, where: str) -> None:
    """Refuse anything but grey and RGB."""
    if isinstance(given, bool) or given not in (1, 3):
        raise SchemaError(f"{where} must be 1 (grey) or 3 (RGB).")


def window(given: Any, where: str) -> None:
    """Refuse anything but two increasing numbers, low and high."""
    bounds = section(given, where, {"low", "high"}, {"low", "high"})
    for key in ("low", "high"):
        value = bounds[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise SchemaError(f"{where}: {key} must be a number below 1e9.")
    if not bounds["low"] < bounds["high"]:
        raise SchemaError(f"{where}: low must be below high.")


def file_patterns(given: Any, where: str) -> None:
    """Refuse anything but one or a few patterns of file names within the folder of images."""
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, list) or not 1 <= len(patterns) <= MOST_PATTERNS:
        raise SchemaError(f"{where} must be one pattern or a list of up to {MOST_PATTERNS}.")
    for pattern in patterns:
        rest = PLACE.sub("", pattern) if isinstance(pattern, str) else "{"
        if rest == pattern or re.search(r"[{}\\]", rest) or not rest.isprintable():
            raise SchemaError(
                f"{where}: a pattern has {{name}} or {{stem}}, such as '{{name}}.jpg' or "
                f"'{{name:5}}.png'; {pattern!r:.40} is not one."
            )
        if rest.startswith("/") or ".." in PurePosixPath(rest).parts:
            raise SchemaError(f"{where}: a pattern must not lead out of the folder images.")


def path_text(given: Any, where: str) -> None:
    """Refuse anything but the text of a path."""
    if not isinstance(given, str) or not given.strip() or len(given) > 500 or "\0" in given:
        raise SchemaError(f"{where} must be a path of up to 500 characters.")


def link_cache(given: Any, where: str) -> None:
    """Refuse anything but the path of one folder, which is not the root of all."""
    path_text(given, where)
    if not PurePosixPath(given).name:
        raise SchemaError(f"{where} must name a folder below the root.")


RULES: dict[str, Callable[[Any, str], Any]] = {
    "column": plain_name,
    "channels": channels,
    "height": partial(integer, low=8, high=64),
    "width": partial(integer, low=8, high=64),
    "window": window,
    "background": partial(one_of, words=("white", "black")),
    "max_pixels": partial(integer, low=64 * 64, high=150_000_000),
    "file": file_patterns,
    "separator": partial(one_of, words=("/", "\\")),
    "strip_prefix": path_text,
    "link_cache": link_cache,
    "pictures_per_person": partial(one_of, words=("one",)),
}
