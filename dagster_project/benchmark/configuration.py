"""Configuration of a comparison, resolved so that a rerun uses exactly the same settings.

It is built from a request or read from the JSON of an earlier comparison; `bench` runs it.
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

_TRIAL = f"{__package__}.trial"  # runs and evaluates a trial; imports this module
FORMAT = 2  # of the results' JSON; a change of it brings a migration and its test
_PACKAGES = ("torch", "numpy", "scipy", "jax", "mbi", "opacus", "dp-accounting", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of the comparison: a method and its changed settings, under a label."""

    label: str
    method: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One method at one epsilon and seed.

    Attributes:
        label: Name of its results.
        method: Name of the registered method.
        epsilon, delta: Privacy budget.
        seed: Public seed of recipe, sampling and evaluation.
        recipe: Resolved public settings.
        key: Label, epsilon, seed and a hash of everything that determines its figures.
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
        data_version, schema_hash: Version and schema hash of its content.
        entries: Methods with their settings.
        epsilons, seeds: Values at which each method runs.
        delta: Delta of every trial.
        n: Synthetic pairs per trial.
        extractor: Feature extractor of the distances between images.
        budget_seconds: CPU seconds of training per trial, None for no limit.
        resolved: Recipe, with all step counts, by `place` of label and epsilon; a rerun uses it.
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
        """Return a key of everything that determines a recipe before it is resolved."""
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
        """Return all trials; every recipe must be resolved.

        All methods run at one seed before the next seed, so that an interrupted comparison has
        compared something.
        """
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
        """Return the same comparison for data in another folder."""
        return replace(self, data=data, data_version=data_version)

    def with_resolved(self, resolved: Mapping[str, Mapping[str, Any]]) -> Configuration:
        return replace(self, resolved={**self.resolved, **resolved})

    def to_json(self, *, workers: int, threads: int) -> dict[str, Any]:
        """Return the configuration as plain JSON, with software versions and the machine."""
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
        """Restore what `to_json` returned, without versions and machine.

        Raises:
            ValueError: `value` is not the configuration of a comparison.
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
    """Return the key of a method's resolved recipe."""
    return f"{entry.label} at {epsilon:g}"


def entries(methods: Sequence[str], settings: Sequence[tuple[str, Any]]) -> tuple[Entry, ...]:
    """Return the rows of a comparison from `NAME` or `LABEL=NAME` and `[LABEL:]setting`.

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
            raise ValueError(f"cannot set {setting!r}: this comparison has no method {label!r}")
        for changed in [label] if colon else list(changes):
            changes[changed][setting] = value
    return tuple(Entry(label=label, method=name, settings=changes[label]) for label, name in pairs)
