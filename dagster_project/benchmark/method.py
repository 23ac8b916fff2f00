"""What a system must do to be compared; which systems there are is in `registry`.

A system is calibrated by the one planner to the epsilon and delta it is asked for, and runs its
stages through `Release.once`, which charges them. How trials are run and judged is no concern of
it (`trial`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.ledger.population import Population
from dagster_project.pipeline.release import Compute, Release
from dagster_project.privacy.plan import Plan


@dataclass(frozen=True, kw_only=True)
class MethodRequest:
    """What a method is asked to plan.

    Attributes:
        schema: The public contract of the data.
        population: The throw-away population; its ledger exists.
        data_version: Version of the data.
        epsilon, delta: What the whole may cost.
        seed: Public seed: goes into the recipe as `public_seed`.
        settings: Changes of the method's recipe by dotted name.
        budget_seconds: CPU seconds of training, None for no limit; a public rule turns it into
            step counts before the plan is solved (`budget`).
        recipe: A recipe resolved before, to be taken as it is: settings and budget are in it.
        compute: Where networks run.
        cache: Folder of shared work.
    """

    schema: Schema
    population: Population
    data_version: str
    epsilon: float
    delta: float
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget_seconds: float | None = None
    recipe: Mapping[str, Any] | None = None
    compute: Compute = field(default_factory=Compute)
    cache: Path


class Method(Protocol):
    """One system under comparison.

    Attributes:
        name: As in `dptabimage compare --list`.
        title: One line for people.
    """

    name: str
    title: str

    def plan(self, request: MethodRequest) -> Plan:
        """The plan at (epsilon, delta). `plan.recipe` holds every public setting, resolved: the
        same mapping as `request.recipe` gives the same mechanisms."""
        ...

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        """Runs the method's stages and returns `n` synthetic pairs.

        Args:
            release: Reserved and opened; `load_train(release)` gives the real pairs.
            data: The data folder, whose records have been read already.
            n: Number of pairs.
            seed: Public seed of the sampling.
            progress: Fraction done and a text.
        """
        ...


def many_records(release: Release, n: int, seed: int) -> np.ndarray | None:
    """`n` records of the release's table model, for the distances between tables; None where the
    method has no table model, whose only records are those of its pairs."""
    from dagster_project.pipeline import table_model

    if release.ledger.committed(release.id, "table_model") is None:
        return None
    return table_model.load(release).model.sample(n, np.random.default_rng([seed, 3]))
