"""The list of a release's stages, in execution order.

Dagster's graph, the command line, `benchmark`, the identity of a release and the tests are derived
from this list. To add a stage, write a module of its name beside this one, add a line here, and an
asset that shows its result.

The modules are named, not imported: importing them all here would make each stage's version depend
on the code of every other (`planning.provenance`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal

from dagster_project.planning.provenance import code_version

if TYPE_CHECKING:
    from dagster_project.data.progress import Progress
    from dagster_project.pipeline.release import Release

Zone = Literal["private", "dp", "public"]


@dataclass(frozen=True)
class Stage:
    """One step between the data and the report.

    Attributes:
        name: Name of the asset, and of the module of this package if `verb` is given.
        zone: Zone of its files.
        after: The stages it depends on.
        verb: Name of the function (release, ...) that runs it; empty if an asset does so itself.
        released: Whether its code affects what is released.
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
        """The full name of the module that runs the stage."""
        return f"{__package__}.{self.name}"

    def run(self, release: Release, progress: Progress, **inputs: Any) -> Any:
        """Run the stage with those inputs that its function accepts by name."""
        function: Callable[..., Any] = getattr(import_module(self.module), self.verb)
        given = {"progress": progress, **inputs}
        accepted = signature(function).parameters
        return function(release, **{name: given[name] for name in given if name in accepted})


STAGES = (
    Stage("dataset", "public", (), released=False),
    Stage("privacy_plan", "public", ("dataset",), released=False),
    Stage("public_images", "public", ("privacy_plan",), "prepare"),
    Stage("pairs", "private", ("privacy_plan",), "read"),
    Stage("minimum_people", "dp", ("pairs",), "count"),
    Stage("table_model", "dp", ("minimum_people", "pairs", "public_images"), "fit"),
    Stage("semantic_query", "dp", ("pairs", "public_images", "table_model"), "ask"),
    Stage("public_checkpoint", "dp", ("semantic_query", "table_model"), "make", pool="gpu"),
    Stage("subsample", "private", ("minimum_people", "pairs"), "draw"),
    Stage("mean_pairs", "dp", ("subsample", "table_model"), "measure"),
    Stage(
        "pretrained_checkpoint", "dp", ("mean_pairs", "table_model", "public_checkpoint"), "make",
        pool="gpu",
    ),
    Stage("image_model", "dp", ("pretrained_checkpoint", "pairs"), "train", pool="gpu"),
    Stage("detail_model", "dp", ("image_model", "mean_pairs"), "fit", pool="gpu"),
    Stage("synthetic_release", "public", ("detail_model", "table_model"), "write", pool="gpu"),
    Stage("fidelity_report", "private", ("synthetic_release", "pairs"), released=False),
    Stage("budget_lineage", "public", ("synthetic_release",), released=False),
)  # fmt: skip

# The planner, which determines the noise, and the stages that spend or make released files.
RELEASED = (
    "dagster_project.planning.planner",
    *(known.module for known in STAGES if known.released),
)


def release_code() -> str:
    """Return a short hash of all code that affects the release, a part of its identity."""
    return code_version(*RELEASED)


def stage(name: str) -> Stage:
    """Return the stage of that name. Raises KeyError if there is none."""
    for known in STAGES:
        if known.name == name:
            return known
    raise KeyError(f"no stage is called {name!r}")


def between(first: str, last: str) -> tuple[Stage, ...]:
    """Return the stages from one to another, both included."""
    names = [known.name for known in STAGES]
    return STAGES[names.index(first) : names.index(last) + 1]
