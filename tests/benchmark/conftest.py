"""The toy project's data declared public, and a method that costs next to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagster_project.benchmark import bench, registry
from dagster_project.benchmark.configuration import Configuration, entries
from dagster_project.benchmark.method import MethodRequest
from dagster_project.benchmark.trial import Places
from dagster_project.data.pairs import Pairs
from dagster_project.data.progress import Progress
from dagster_project.data.schema import Schema
from dagster_project.pipeline.pairs import load_train
from dagster_project.pipeline.release import Release
from dagster_project.planning.planner import build_plan
from dagster_project.privacy.calibration import gaussian_noise_multiplier
from dagster_project.privacy.events import Gaussian
from dagster_project.privacy.plan import Plan, PlannedMechanism
from dagster_project.settings.recipe import Recipe
from tests.toy_project import write_project


class Count:
    """Charges one Gaussian mechanism, and draws from the real pairs: good pictures, no privacy."""

    title = "for tests"

    def __init__(self, name: str) -> None:
        self.name = name

    def plan(self, request: MethodRequest) -> Plan:
        given = request.recipe or Recipe().changed(dict(request.settings)).model_dump(mode="json")
        return build_plan(
            request.schema,
            Recipe.model_validate({**given, "public_seed": request.seed}),
            name=self.name,
            target_epsilon=request.epsilon,
            target_delta=request.delta,
            population=request.population.name,
            data_version=request.data_version,
            code_version="tests",
            identity_key=request.population.member_key(),
            mechanisms=_mechanisms,
        )

    def synthesise(
        self, release: Release, data: Path, n: int, seed: int, progress: Progress
    ) -> Pairs:
        def run() -> None:
            (release.models / "count.txt").write_text("0")

        release.once(
            "count",
            run,
            executed={"count": release.declared("count")},
            files=("count.txt",),
            parents=(),
        )
        train = load_train(release)
        return train.take(np.random.default_rng(seed).integers(len(train), size=n))


def _mechanisms(schema: Schema, recipe: Recipe, mu: float) -> tuple[PlannedMechanism, ...]:
    noise = gaussian_noise_multiplier(mu=mu, share=1.0)
    return (
        PlannedMechanism(
            name="count",
            stage="count",
            event=Gaussian(noise_multiplier=noise),
            declared={"noise_multiplier": noise},
        ),
    )


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers the method "count"."""
    monkeypatch.setitem(registry.REGISTRY, "count", f"{__name__}:Count")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_project(tmp_path_factory.mktemp("public"), **{"public: false": "public: true"})
    return root / "data"


@pytest.fixture
def places(data: Path, tmp_path: Path) -> Places:
    return Places(data=data, out=tmp_path / "out", cache=tmp_path / "cache")


def configured(data: Path, **changes: Any) -> Configuration:
    """A small comparison of the data."""
    asked: Mapping[str, Any] = {
        "data": str(data),
        "data_version": bench.current_version(data),
        "schema_hash": Schema.from_file(data / "schema.yaml").hash,
        "entries": entries(["count"], []),
        "epsilons": (2.0,),
        "seeds": (0,),
        "delta": 1e-4,
        "n": 60,
        "extractor": "pixels",
        "budget_seconds": None,
        "resolved": {},
        **changes,
    }
    return Configuration(**asked)
