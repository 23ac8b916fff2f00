"""The recipe: all public settings of a release and the rules that tie its sections together.

Nothing here is, or depends on, private data. A preset (`presets`) is one configuration of the same
stages. Values that follow from public numbers by a rule (the steps of DP-SGD, the rounds of the
table) are filled in by `planning`, which also documents the rules. Noise is not a setting: it is
solved from epsilon and delta.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError, model_validator

from dagster_project.settings.diffusion import (
    DPSGDSettings,
    NetworkSettings,
    PretrainingSettings,
    PublicTrainingSettings,
    SamplerSettings,
)
from dagster_project.settings.sections import (
    BudgetSplit,
    ImageGeneratorSettings,
    MeanPairsSettings,
    PublicImagesSettings,
    SemanticQuerySettings,
    Settings,
    TableSettings,
)
from dagster_project.settings.two_scale import CoarseSettings, DetailSettings


class Recipe(Settings):
    """All public settings of a release.

    Attributes:
        public_seed: Seed of everything that is random but not private.
        minimum_people: Noisy number of people below which a release ends early; 0 counts nobody,
            None is half of the people that `n_public` lets expect.
    """

    budget_split: BudgetSplit = BudgetSplit()
    table: TableSettings = TableSettings()
    public_images: PublicImagesSettings = PublicImagesSettings()
    semantic_query: SemanticQuerySettings = SemanticQuerySettings()
    public_training: PublicTrainingSettings = PublicTrainingSettings()
    mean_pairs: MeanPairsSettings = MeanPairsSettings()
    image_generator: ImageGeneratorSettings = ImageGeneratorSettings()
    pretraining: PretrainingSettings = PretrainingSettings()
    network: NetworkSettings = NetworkSettings()
    coarse: CoarseSettings = CoarseSettings()
    dp_sgd: DPSGDSettings = DPSGDSettings()
    detail: DetailSettings = DetailSettings()
    sampler: SamplerSettings = SamplerSettings()
    public_seed: int = Field(0, ge=0)
    minimum_people: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _what_is_taught_is_released(self) -> Recipe:
        if self.pretraining.source != "none" and not self.budget_split.pairs:
            raise ValueError("without budget_split.pairs only pretraining.source=none is possible")
        return self

    @model_validator(mode="after")
    def _a_pool_is_asked_once(self) -> Recipe:
        pool, asked = self.public_images, self.semantic_query.form
        if bool(self.budget_split.query) != (pool.source is not None and asked == "histogram"):
            raise ValueError(
                "budget_split.query and a public_images.source with "
                "semantic_query.form=histogram need each other: set both or neither"
            )
        if pool.source is not None and asked == "column" and pool.labels is None:
            raise ValueError("semantic_query.form=column needs public_images.labels")
        if asked == "histogram" and (pool.labels or math.inf) < self.semantic_query.top_k:
            raise ValueError("public_images.labels must be at least semantic_query.top_k")
        return self

    @model_validator(mode="after")
    def _what_draws_is_trained(self) -> Recipe:
        fitted = self.pretraining.source == "generator"
        if self.sampler.model == "generator" and (self.budget_split.image or not fitted):
            raise ValueError(
                "sampler.model=generator needs pretraining.source=generator, and "
                "budget_split.image=0: no network is left for DP-SGD"
            )
        return self

    @property
    def label_cells(self) -> int:
        """Number of cells of the table's hidden column of public labels; 0 without that column."""
        if self.public_images.source is None or self.semantic_query.form == "histogram":
            return 0
        return self.public_images.labels or 0

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Recipe:
        """Return a recipe that was stored whole, in a plan or in a comparison's JSON.

        Raises:
            ValueError: A setting is missing. Another version of this software stored the recipe,
                and its behaviour may differ from the setting's current default.
        """
        recipe = cls.model_validate(dict(stored))
        if lacking := sorted(set(_names(recipe.model_dump())) - set(_names(stored))):
            raise ValueError(
                "another version of this software made the recipe, without the setting "
                f"{lacking[0]!r}: continue with that version"
            )
        return recipe

    def changed(self, changes: dict[str, Any]) -> Recipe:
        """Return a copy with the given changes by dotted name, validated again.

        >>> Recipe().changed({"dp_sgd.steps": 10}).dp_sgd.steps
        10

        Raises:
            ValueError: A name is unknown or a value is out of range.
        """
        content = self.model_dump()
        for name, value in changes.items():
            section, dot, field = name.rpartition(".")
            target = content.get(section) if dot else content
            if not isinstance(target, dict) or field not in target:
                raise ValueError(f"unknown setting {name!r}")
            target[field] = value
        try:
            return Recipe.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            text = fault["msg"].removeprefix("Value error, ")
            raise ValueError(f"setting {place!r}: {text.lower()}" if place else text) from None


def _names(content: Mapping[str, Any]) -> Iterator[str]:
    """Dotted names of all settings."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in _names(value))
        else:
            yield name
