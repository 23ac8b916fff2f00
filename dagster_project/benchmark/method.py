"""Interface of a system under comparison; `registry` lists the systems.

The planner that all systems share calibrates a system to the requested epsilon and delta. The
system runs its stages through `Release.once`, which charges them. `trial` runs and evaluates it.
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
    """Request for a method's plan.

    Attributes:
        schema: The public contract of the data.
        population: The throw-away population, whose ledger exists.
        data_version: Version of the data.
        epsilon, delta: Budget of the whole plan.
        seed: Public seed, which becomes the recipe's `public_seed`.
        settings: Changes to the method's recipe by dotted name.
        budget_seconds: CPU seconds of training, None for no limit; a public rule turns it into
            step counts before the plan is solved (`budget`).
        recipe: A resolved recipe to use unchanged; it includes settings and budget.
        compute: Device of the networks.
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
        name: Name in `dptabimage compare --list`.
        title: Description in one line.
    """

    name: str
    title: str

    def plan(self, request: MethodRequest) -> Plan:
        """Return the plan at (epsilon, delta).

        `plan.recipe` holds every public setting, resolved: passed as `request.recipe` it gives the
        same mechanisms.
        """
        ...

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        """Run the method's stages and return `n` synthetic pairs.

        Args:
            release: A reserved and opened release; `load_train(release)` returns the real pairs.
            data: The data folder, whose records have already been read.
            n: Number of pairs.
            seed: Public seed of the sampling.
            progress: Called with the fraction done and a text.
        """
        ...


def many_records(release: Release, n: int, seed: int) -> np.ndarray | None:
    """Return `n` records of the release's table model, for the distances between tables.

    None if the method has no table model; its only records are then those of its pairs.
    """
    from dagster_project.pipeline import table_model

    if release.ledger.committed(release.id, "table_model") is None:
        return None
    return table_model.load(release).model.sample(n, np.random.default_rng([seed, 3]))
