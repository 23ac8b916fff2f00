"""Small plans for the audits of the ledger."""

from __future__ import annotations

from dagster_project.privacy.events import Gaussian, PoissonSampledGaussian
from dagster_project.privacy.plan import Plan, PlannedMechanism


def table(sigma: float, *, cohort: str = "all") -> PlannedMechanism:
    """Return a table model with one Gaussian mechanism."""
    return PlannedMechanism(
        name="table_model",
        stage="table_model",
        event=Gaussian(noise_multiplier=sigma),
        declared={"noise_multiplier": sigma},
        cohort=cohort,
    )


def training(*, sample_rate: float, steps: int, replay_steps: int) -> PlannedMechanism:
    """Return an image model that is trained in steps, so that it can resume."""
    return PlannedMechanism(
        name="image_model",
        stage="image_model",
        event=PoissonSampledGaussian(
            noise_multiplier=8.0, sample_rate=sample_rate, count=steps + replay_steps
        ),
        declared={"noise_multiplier": 8.0, "steps": steps, "replay_steps": replay_steps},
    )


def plan(name: str, *mechanisms: PlannedMechanism) -> Plan:
    """Return the plan of a release with these mechanisms."""
    return Plan(
        release_id=name,
        population="audit",
        data_version="audit",
        schema_hash="audit",
        code_version="audit",
        target_epsilon=9.0,
        target_delta=1e-6,
        n_public=20000,
        discretization=1e-4,
        mechanisms=mechanisms,
        composed_epsilon=9.0,
        recipe={},
    )
