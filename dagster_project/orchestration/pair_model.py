"""The model that MLflow registers: it draws pairs. MLflow runs this file; nothing is pickled.

`mlflow.pyfunc.load_model(...).predict(500)` returns a table of 500 pairs, and
`predict({"n": 500, "seed": 2, "where": "age >= 60"})` those of another seed under a condition.
Loading needs this package.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow

from dagster_project.data.schema import Schema
from dagster_project.pipeline.release import Models
from dagster_project.pipeline.synthetic_release import draw_pairs
from dagster_project.settings.recipe import Recipe


class PairModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow has no types here
    """Pairs of an image (PNG bytes) and a record, drawn from a release's models."""

    def load_context(self, context: Any) -> None:
        """Load settings and schema; the networks are loaded when pairs are drawn."""
        models = Path(context.artifacts["models"])
        settings = json.loads((models / "release.json").read_text(encoding="utf-8"))
        self.models = Models(
            recipe=Recipe.restored(settings["settings"]),
            schema=Schema.from_dict(settings["schema"]),
            models=models,
        )

    # MLflow would read annotations as a schema of the input, and knows none for a plain number.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Return pairs.

        Args:
            context: Unused.
            model_input: Their number, or a mapping with "n" and, if wanted, "seed" and "where".
            params: Unused.
        """
        asked = model_input if isinstance(model_input, dict) else {"n": model_input}
        return draw_pairs(
            self.models,
            n=int(asked["n"]),
            seed=int(asked.get("seed", 1)),
            where=asked.get("where"),
        )


mlflow.models.set_model(PairModel())
