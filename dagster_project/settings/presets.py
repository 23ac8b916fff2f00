"""Named recipes: each published or compared system is one configuration of the same stages.

A comment beside each preset says what it changes and why; docs/presets.md lists where it deviates
from the paper. Solving for noise does not belong here (`planning`), nor do systems that need
mechanisms of their own.

Systems and ablations after DP-TabImage (Chen, Lamp, Wang, Jha, arXiv 2609.00708, 2026).
"""

from __future__ import annotations

from dagster_project.settings.recipe import Recipe

DEFAULT = "default"

# Diffusion at full size with the U-Net, as in the papers. The two-scale model is available to each
# of them by `sampler.model=two_scale`.
_FULL_SIZE = {
    "sampler.model": "diffusion",
    "sampler.steps": 12,
    "dp_sgd.noise_draws": 1,
    "dp_sgd.learning_rate": 5e-4,
}

# For networks trained with DP-SGD: more guidance amplifies the noise left in them. At epsilon 1 on
# the example, `published` has a mean AUC of .72 at 1, .77 at 1.5 and .71 at 2.5 (one seed each).
_GUIDANCE = 1.5

# DP-TabImage. The table has its published share, .2 of the total zCDP. The paper does not say how
# the rest is divided (its sigmas of 10 exceed the budget by themselves); here the mean pairs get as
# much as the table. More would gain little: releasing a 5 % sample costs next to nothing down to a
# noise multiplier of about 2 and very much below it, so its noise hardly depends on its share.
# The published minimum of 100 people in a cell is hard on small data: of 20,000 people the sample
# has 1,000, so cells with less than a tenth of them are dropped; of 6,000 nearly all cells are, and
# without any cell there is no pretraining.
_PUBLISHED = Recipe().changed(
    {
        **_FULL_SIZE,
        "budget_split.table": 0.2,
        "budget_split.pairs": 0.2,
        "budget_split.image": 0.6,
        "mean_pairs.sample_rate": 0.05,
        "mean_pairs.side": None,
        "mean_pairs.pixel_share": 1.0,
        "mean_pairs.perceptual_share": 0.0,
        "mean_pairs.centred": False,
        "mean_pairs.counts": "noisy",
        "mean_pairs.minimum_count": 100.0,
        "mean_pairs.consistent": False,
        "mean_pairs.denoised": False,
        "mean_pairs.min_noise_multiplier": 0.0,
        "pretraining.source": "mean_pairs",
        "sampler.guidance": _GUIDANCE,
    }
)

# Table first; DP-SGD gets the rest of the budget.
_BASE = Recipe().changed(
    {
        **_FULL_SIZE,
        "budget_split.table": 0.2,
        "budget_split.pairs": 0.0,
        "budget_split.image": 0.8,
        "pretraining.source": "none",
        "sampler.guidance": _GUIDANCE,
    }
)

# PrivImage (Li et al., arXiv 2311.12850, 2024) for records. Procedural images stand in for the pool
# of public images unless `public_images.source` names a better one.
_PUBLIC = {"budget_split.query": 0.02, "public_images.source": "procedural"}

PRESETS: dict[str, Recipe] = {
    DEFAULT: Recipe(),
    "published": _PUBLISHED,
    "base": _BASE,
    # Images that ignore the records beside them: the zero point of every cross-modal figure.
    "indep": _BASE.changed({"dp_sgd.condition_dropout": 1.0, "sampler.guidance": 0.0}),
    "randimg": _PUBLISHED.changed({"mean_pairs.groups": "random", "mean_pairs.records": "uniform"}),
    "attrimg": _PUBLISHED.changed({"mean_pairs.records": "uniform"}),
    "privimage": _BASE.changed(_PUBLIC),
    "privimage+pairs": Recipe().changed(
        {
            **_FULL_SIZE,
            **_PUBLIC,
            "budget_split.table": 0.3,
            "budget_split.pairs": 0.4,
            # The generator teaches images of full size here, not only their coarse form.
            "image_generator.perceptual_steps": 300,
            "sampler.guidance": 2.5,
        }
    ),
    # More weights, people, draws and steps than two cores have the time for.
    "gpu": Recipe().changed(
        {
            "coarse.width": 64,
            "coarse.token_width": 64,
            "dp_sgd.batch": 4096,
            "dp_sgd.noise_draws": 8,
            "dp_sgd.most_steps": 2000,
            "dp_sgd.learning_rate": 1e-3,
            "image_generator.perceptual_steps": 300,
            "detail.steps": 1500,
            "detail.batch": 128,
        }
    ),
    # The default's plan without DP-SGD, whose budget the others get: what its steps buy.
    "nosgd": Recipe().changed({"budget_split.image": 0.0, "sampler.model": "two_scale"}),
}


def preset(name: str) -> Recipe:
    """Return the recipe of that name.

    >>> preset("default") == Recipe()
    True

    Raises:
        ValueError: No preset has that name.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: one of {', '.join(PRESETS)}")
    return PRESETS[name]
