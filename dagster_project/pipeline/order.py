"""The stages of a release, once and in the data's order.

Dagster's graph, the command line, `benchmark`, the identity of a release and the tests are derived
from this list. A new stage is a module of its name beside this one, a line here, and an asset that
shows what it made.

The modules are named, not imported: importing them all here would make each stage's version follow
the code of every other (`planning.provenance`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any, Literal

from dagster_project.data.progress import Progress
from dagster_project.pipeline.release import Release
from dagster_project.planning.provenance import code_version

Zone = Literal["private", "dp", "public"]


@dataclass(frozen=True)
class Stage:
    """One step between the data and the report.

    Attributes:
        name: Of the asset, and of the module of this package where `verb` is given.
        zone: Where its files lie.
        after: The stages whose release it goes on with.
        verb: The function that runs it, (release, ...); empty where an asset does so itself.
        released: Whether its code decides what is released.
        pool: Dagster's concurrency pool.
    """

    name: str
    zone: Zone
    after: tuple[str, ...] = ()
    verb: str = ""
    released: bool = True
    pool: str | None = None

    @property
    def module(self) -> str:
        """Full name of the module that runs it."""
        return f"{__package__}.{self.name}"

    def run(self, release: Release, progress: Progress, **inputs: Any) -> Any:
        """Run the stage with those of the inputs that its function takes by name."""
        function: Callable[..., Any] = getattr(import_module(self.module), self.verb)
        given = {"progress": progress, **inputs}
        accepted = signature(function).parameters
        return function(release, **{name: given[name] for name in given if name in accepted})


STAGES = (
    Stage("dataset", "public", (), released=False),
    Stage("privacy_plan", "public", ("dataset",), released=False),
    Stage("public_images", "public", ("privacy_plan",), "prepare"),
    Stage("pairs", "private", ("privacy_plan",), "read"),
    Stage("table_model", "dp", ("pairs", "public_images"), "fit"),
    Stage("semantic_query", "dp", ("pairs", "public_images", "table_model"), "ask"),
    Stage("public_checkpoint", "dp", ("semantic_query", "table_model"), "make", pool="gpu"),
    Stage("subsample", "private", ("pairs",), "draw"),
    Stage("mean_pairs", "dp", ("subsample", "table_model"), "measure"),
    Stage(
        "pretrained_checkpoint", "dp", ("mean_pairs", "table_model", "public_checkpoint"), "make",
        pool="gpu",
    ),
    Stage("image_model", "dp", ("pretrained_checkpoint", "pairs"), "train", pool="gpu"),
    Stage("synthetic_release", "public", ("image_model", "table_model"), "write", pool="gpu"),
    Stage("fidelity_report", "private", ("synthetic_release", "pairs"), released=False),
    Stage("budget_lineage", "public", ("synthetic_release",), released=False),
)  # fmt: skip

# The planner, which determines the noise, and the stages that spend or make released files.
RELEASED = (
    "dagster_project.planning.planner",
    *(known.module for known in STAGES if known.released),
)


def release_code() -> str:
    """A short hash of all the code that decides what is released: part of a release's identity."""
    return code_version(*RELEASED)


def stage(name: str) -> Stage:
    """The stage of that name. Raises KeyError where there is none."""
    for known in STAGES:
        if known.name == name:
            return known
    raise KeyError(f"no stage is called {name!r}")


def between(first: str, last: str) -> tuple[Stage, ...]:
    """The stages that run from one to another, both included."""
    names = [known.name for known in STAGES]
    return STAGES[names.index(first) : names.index(last) + 1]
