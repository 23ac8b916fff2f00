"""Named recipes: each published or compared system is one configuration of the same stages.

What a preset changes, and why, stands beside it. Solving for noise does not belong here
(`planning`), nor do systems that need stages of their own.
"""

from __future__ import annotations

from dagster_project.recipe import Recipe

DEFAULT = "default"

PRESETS: dict[str, Recipe] = {
    DEFAULT: Recipe(),
}


def preset(name: str) -> Recipe:
    """The recipe of that name.

    >>> preset("default") == Recipe()
    True

    Raises:
        ValueError: No preset has that name.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: one of {', '.join(PRESETS)}")
    return PRESETS[name]
