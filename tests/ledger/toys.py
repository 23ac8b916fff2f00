"""Small populations and plans for the ledger's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dagster_project.ledger.population import Population
from dagster_project.privacy.events import Gaussian, PoissonSampledGaussian
from dagster_project.privacy.plan import Plan, PlannedMechanism

SHA = "ab" * 32


def population_file(folder: Path, **changes: Any) -> Path:
    """A population.yaml in `folder`; None leaves a key out."""
    lines = {
        "population": "toy",
        "unit": "person",
        "relation": "add_remove",
        "lifetime_epsilon": 5.0,
        "target_delta": 1e-6,
        "n_public": 20000,
        "ledger": "ledger/ledger.sqlite",
        "anchor": "null",
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "population.yaml"
    path.write_text("".join(f"{k}: {v}\n" for k, v in lines.items() if v is not None))
    return path


def population(folder: Path, **changes: Any) -> Population:
    """The population of `population_file`."""
    return Population.load(population_file(folder, **changes))


def gaussian(
    sigma: float = 4.2, *, stage: str = "table_model", name: str = "", cohort: str = "all"
) -> PlannedMechanism:
    """One Gaussian mechanism; sigma 4.2 is about epsilon 1 at delta 1e-6."""
    return PlannedMechanism(
        name=name or f"{stage}.measurement",
        stage=stage,
        event=Gaussian(noise_multiplier=sigma),
        declared={"noise_multiplier": sigma, "clip_norm": 1.0},
        cohort=cohort,
    )


def training(*, steps: int = 20, replay_steps: int = 10) -> PlannedMechanism:
    """A stage that runs, and can resume, in steps."""
    return PlannedMechanism(
        name="image_model",
        stage="image_model",
        event=PoissonSampledGaussian(
            noise_multiplier=8.0, sample_rate=0.01, count=steps + replay_steps
        ),
        declared={
            "noise_multiplier": 8.0,
            "sample_rate": 0.01,
            "steps": steps,
            "replay_steps": replay_steps,
        },
    )


def plan(release_id: str = "first", *mechanisms: PlannedMechanism, **changes: Any) -> Plan:
    """A plan of one Gaussian mechanism, or of those given."""
    values: dict[str, Any] = {
        "release_id": release_id,
        "population": "toy",
        "data_version": "0123456789abcdef0123456789abcdef.dir",
        "schema_hash": "5c" * 32,
        "code_version": "c0de",
        "target_epsilon": 1.0,
        "target_delta": 1e-6,
        "n_public": 20000,
        "discretization": 1e-4,
        "mechanisms": mechanisms or (gaussian(),),
        "composed_epsilon": 1.0,
        "recipe": {"rounds": 12},
    }
    return Plan(**values | changes)


def executed(a_plan: Plan, stage: str) -> dict[str, Any]:
    """What a faithful run reports to `begin`."""
    return {item.name: dict(item.declared) for item in a_plan.mechanisms if item.stage == stage}
