"""Blanks in a drafted schema.yaml or population.yaml, with which no command runs.

`dptabimage init` writes `FILL_IN` wherever a public fact is needed that only its owner can state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BLANK = "FILL_IN"


def blanks(content: Any, where: str = "") -> list[str]:
    """Return the place of each blank in the content of a YAML file.

    >>> blanks({"name": "FILL_IN", "image": {"height": "FILL_IN"}, "ages": ["FILL_IN"]})
    ['name', 'image.height', 'ages']
    """
    if content == BLANK:
        return [where or BLANK]
    found: list[str] = []
    if isinstance(content, Mapping):
        for key, value in content.items():
            place = f"{where}.{key}" if where else str(key)
            found += [place] if key == BLANK else blanks(value, place)
    elif isinstance(content, list):
        for value in content:
            found += blanks(value, where)
    return list(dict.fromkeys(found))


def unfilled(places: Mapping[str, list[str]]) -> str:
    """Return one sentence that names the blanks of each file."""
    files = (
        f"{name} still has {BLANK} at {', '.join(found)}" for name, found in places.items() if found
    )
    return "; ".join(files) + ": state these public facts first"
