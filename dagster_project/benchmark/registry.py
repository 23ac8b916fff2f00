"""Registry of the systems that can be compared; a new one needs a file and one line here.

Importing this module loads no system, so that the command line can list them at no cost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dagster_project.settings.presets import PRESETS

if TYPE_CHECKING:
    from dagster_project.benchmark.method import Method

_STAGED = "staged:Staged"

# Name -> module of this package and class, in the order of `--list`. The class gets the name.
REGISTRY: dict[str, str] = {
    "indep": _STAGED,
    "jointmerf": "joint_mean_embedding:JointMeanEmbedding",
    "jointdm": "joint_diffusion:JointDiffusion",
    "imagetab": "image_first:ImageFirst",
    "base": _STAGED,
    "randimg": _STAGED,
    "attrimg": _STAGED,
    "published": _STAGED,
    "nosgd": _STAGED,
    "default": _STAGED,
    "privimage": _STAGED,
}


def known() -> list[str]:
    """Return the names of all methods, in the order of `--list`."""
    return [name for name, place in REGISTRY.items() if place != _STAGED or name in PRESETS]


def method(name: str) -> Method:
    """Return the method with this name.

    Raises:
        ValueError: There is no such method.
    """
    place, attribute = _place(name)
    return getattr(import_module(place), attribute)(name)


def module(name: str) -> str:
    """Return the full name of the module that defines a method, without importing it.

    Raises:
        ValueError: There is no such method.
    """
    return _place(name)[0]


def _place(name: str) -> tuple[str, str]:
    if name not in known():
        raise ValueError(f"no method {name!r}; the methods are {', '.join(known())}")
    module, _, attribute = REGISTRY[name].partition(":")
    return module if "." in module else f"{__package__}.{module}", attribute
