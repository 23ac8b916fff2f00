"""Which systems can be compared. A new one is a file and one line here.

Importing this loads no system, so that the graph and the command line can list them at no cost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dagster_project.presets import PRESETS

if TYPE_CHECKING:
    from dagster_project.comparison.method import Method

_STAGED = "staged:Staged"

# Name -> module of this package and class, in the order of `--list`; called with the name.
REGISTRY: dict[str, str] = {
    "indep": _STAGED,
    "jointmerf": "joint_mean_embedding:JointMeanEmbedding",
    "jointdm": "joint_diffusion:JointDiffusion",
    "imagetab": "image_first:ImageFirst",
    "base": _STAGED,
    "randimg": _STAGED,
    "attrimg": _STAGED,
    "published": _STAGED,
    "default": _STAGED,
    "privimage": _STAGED,
}


def known() -> list[str]:
    """Names of all methods, in the order they are listed in."""
    return [name for name, place in REGISTRY.items() if place != _STAGED or name in PRESETS]


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in known():
        raise ValueError(f"no method {name!r}: one of {', '.join(known())}")
    module, _, attribute = REGISTRY[name].partition(":")
    if "." not in module:
        module = f"{__package__}.{module}"
    return getattr(import_module(module), attribute)(name)
