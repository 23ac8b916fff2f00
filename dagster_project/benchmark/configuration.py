"""What a comparison consists of, resolved so far that a rerun does exactly the same.

Read from a request or from the JSON of an earlier comparison. Running it belongs to `bench`.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from dagster_project.benchmark.registry import method, module
from dagster_project.pipeline.order import RELEASED
from dagster_project.pipeline.public_images import source_state
from dagster_project.planning.provenance import code_version, git_facts, lock_hash
from dagster_project.privacy.plan import canonical_hash

_TRIAL = f"{__package__}.trial"  # runs and judges a trial; imports this module
FORMAT = 2  # of the results' JSON; a change of it brings a migration and its test
_PACKAGES = ("torch", "numpy", "scipy", "jax", "mbi", "opacus", "dp-accounting", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the comparison: a method, perhaps with changed settings, under a label."""

    label: str
    method: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method at one epsilon and seed.

    Attributes:
        label: What its results are called.
        method: The registered method.
        epsilon, delta: Its budget.
        seed: Public seed of recipe, sampling and evaluation.
        recipe: Resolved public settings.
        key: Hash of everything that decides its figures.
    """

    label: str
    method: str
    epsilon: float
    delta: float
    seed: int
    recipe: Mapping[str, Any]
    key: str


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A whole comparison.

    Attributes:
        data: The data folder.
        data_version, schema_hash: What it held.
        entries: Methods with their settings.
        epsilons, seeds: What each is run at.
        delta: Of every trial.
        n: Synthetic pairs of every trial.
        extractor: Features of the distances between pictures.
        budget_seconds: CPU seconds of training of a trial, None for no limit.
        resolved: Recipe by `place` of label and epsilon: step counts and all; what a rerun takes.
    """

    data: str
    data_version: str
    schema_hash: str
    entries: tuple[Entry, ...]
    epsilons: tuple[float, ...]
    seeds: tuple[int, ...]
    delta: float
    n: int
    extractor: str
    budget_seconds: float | None
    resolved: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        labels = [entry.label for entry in self.entries]
        if not (labels and self.epsilons and self.seeds):
            raise ValueError("a comparison needs at least one method, epsilon and seed")
        if len(set(labels)) < len(labels):
            raise ValueError("two methods of a comparison have the same name: write NAME=METHOD")
        if min(self.epsilons) <= 0 or not 0 < self.delta < 1:
            raise ValueError("epsilon must be above 0, and delta between 0 and 1")
        if self.n < 10 or min(self.seeds) < 0:
            raise ValueError("n must be at least 10, and a seed at least 0")
        if self.budget_seconds is not None and self.budget_seconds <= 0:
            raise ValueError("budget-seconds must be above 0")

    def request_key(self, entry: Entry, epsilon: float) -> str:
        """Names what decides a recipe before it is resolved."""
        asked = {
            "method": entry.method,
            "settings": dict(entry.settings),
            "epsilon": epsilon,
            "delta": self.delta,
            "budget_seconds": self.budget_seconds,
            "schema": self.schema_hash,
            "code": code_version(*RELEASED, _TRIAL, module(entry.method)),
        }
        return f"{entry.method}-eps{epsilon:g}-{canonical_hash(asked)[:10]}"

    def trials(self) -> list[Trial]:
        """All trials, once every recipe is resolved; all methods of one seed before the next, so
        that a comparison that is stopped has compared something."""
        return [
            self._trial(entry, epsilon, seed)
            for seed in self.seeds
            for epsilon in self.epsilons
            for entry in self.entries
        ]

    def _trial(self, entry: Entry, epsilon: float, seed: int) -> Trial:
        recipe = {**self.resolved[place(entry, epsilon)], "public_seed": seed}
        decides = {
            "method": entry.method,
            "epsilon": epsilon,
            "delta": self.delta,
            "seed": seed,
            "recipe": recipe,
            "n": self.n,
            "extractor": self.extractor,
            "data": self.data_version,
            "schema": self.schema_hash,
            "code": code_version(*RELEASED, _TRIAL, module(entry.method)),
            "pool": source_state(recipe.get("public_images", {}).get("source")),
        }
        return Trial(
            label=entry.label,
            method=entry.method,
            epsilon=epsilon,
            delta=self.delta,
            seed=seed,
            recipe=recipe,
            key=f"{entry.label}-eps{epsilon:g}-seed{seed}-{canonical_hash(decides)[:12]}",
        )

    def at(self, *, data: str, data_version: str) -> Configuration:
        """The same comparison of data in another place."""
        return replace(self, data=data, data_version=data_version)

    def with_resolved(self, resolved: Mapping[str, Mapping[str, Any]]) -> Configuration:
        return replace(self, resolved={**self.resolved, **resolved})

    def to_json(self, *, workers: int, threads: int) -> dict[str, Any]:
        """As plain JSON, with the versions and the machine it ran on."""
        return {
            "format": FORMAT,
            **asdict(self),
            "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in _PACKAGES},
                "code": code_version(_TRIAL),
                "lock": lock_hash(),
                **git_facts(),
            },
            "machine": {
                "platform": platform.platform(),
                "cpus": os.cpu_count(),
                "workers": workers,
                "threads": threads,
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Configuration:
        """What `to_json` wrote; versions and machine are left aside.

        Raises:
            ValueError: It is not a comparison's configuration.
        """
        names = cls.__dataclass_fields__
        if value.get("format") != FORMAT:
            raise ValueError(
                f"this is not a comparison's configuration in format {FORMAT}: another version of "
                "this software may have made it"
            )
        try:
            content = {name: value[name] for name in names}
            content["entries"] = tuple(Entry(**entry) for entry in content["entries"])
            content["epsilons"] = tuple(map(float, content["epsilons"]))
            content["seeds"] = tuple(content["seeds"])
            return cls(**content)
        except (KeyError, TypeError):
            raise ValueError("this is not the configuration of a comparison") from None


def place(entry: Entry, epsilon: float) -> str:
    """Where a method's resolved recipe stands."""
    return f"{entry.label} at {epsilon:g}"


def entries(methods: Sequence[str], settings: Sequence[tuple[str, Any]]) -> tuple[Entry, ...]:
    """From `NAME` or `LABEL=NAME` and `[LABEL:]setting` to the rows of a comparison.

    >>> entries(["default", "short=default"], [("short:pretraining.steps", 9)])[1].settings
    {'pretraining.steps': 9}

    Raises:
        ValueError: An unknown method or label.
    """
    pairs = [(label, name or label) for label, _, name in (m.partition("=") for m in methods)]
    for _, name in pairs:
        method(name)
    changes: dict[str, dict[str, Any]] = {label: {} for label, _ in pairs}
    for place, value in settings:
        label, colon, setting = place.rpartition(":")
        if colon and label not in changes:
            raise ValueError(f"no method {label!r} in this comparison to set {setting!r} of")
        for changed in [label] if colon else list(changes):
            changes[changed][setting] = value
    return tuple(Entry(label=label, method=name, settings=changes[label]) for label, name in pairs)
