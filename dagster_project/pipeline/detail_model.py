"""Fits the network that adds detail to coarse images, at no privacy cost.

Only a two-scale recipe has this stage. It needs released means with a perceptual part; without
them, coarse images are enlarged as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import load_file

from dagster_project.data.progress import Progress
from dagster_project.image.detail import DetailNetwork, fit_detail
from dagster_project.image.two_scale import TwoScale
from dagster_project.pipeline import image_model, mean_pairs, pretrained_checkpoint
from dagster_project.pipeline.networks import save_network
from dagster_project.pipeline.release import Drawable, Release
from dagster_project.settings.recipe import Recipe

FILES = ("detail_model.safetensors",)
_CHUNK = 500
_DRAWING = 0.2  # of the stage's time, for the progress bar


def used(release: Drawable) -> bool:
    """Return whether the release has this stage."""
    return used_by(release.recipe)


def used_by(recipe: Recipe) -> bool:
    """Return whether releases of a recipe have this stage."""
    seen = recipe.budget_split.pairs and recipe.mean_pairs.perceptual_share
    return recipe.sampler.model == "two_scale" and bool(seen)


def stage_of(release: Release) -> tuple[str, ...]:
    """Return the name of the stage in a tuple, which is empty if the release does not have it."""
    return ("detail_model",) if used(release) else ()


def model_files(release: Drawable) -> tuple[str, ...]:
    """Return the files that images are drawn from, relative to the models' folder."""
    finisher = (pretrained_checkpoint.FINISHER,) if release.has_finisher else ()
    return (*image_model.FILES, *finisher, *(FILES if used(release) else ()))


def fit(release: Release, progress: Progress) -> bool:
    """Write `models/<id>/detail_model.safetensors`. Reads nothing private."""
    if not used(release):
        return False

    def run() -> None:
        seed = release.recipe.public_seed + 4
        records = torch.from_numpy(
            pretrained_checkpoint.draw_records(
                release, release.recipe.detail.images, np.random.default_rng(seed)
            )
        )
        coarse = _draw_coarse(release, records, seed, lambda f, t: progress(_DRAWING * f, t))
        released = mean_pairs.load(release)
        network = fit_detail(
            coarse,
            records,
            released.means,
            released.shares,
            released.feature_map,
            release.image_shape,
            released.noise,
            release.recipe.detail,
            lambda f, text: progress(_DRAWING + (1 - _DRAWING) * f, text),
            seed=seed,
            device=release.compute.torch_device,
        )
        save_network(network, release.models / FILES[0])

    return release.once(
        "detail_model",
        run,
        executed=None,
        files=FILES,
        parents=("table_model", "mean_pairs", "pretrained_checkpoint", "image_model"),
    )


def load(release: Drawable) -> TwoScale:
    """Load everything that draws an image, in evaluation mode."""
    model = _coarse(release)
    if used(release):
        model.detail = _new(release)
        model.detail.load_state_dict(load_file(release.models / FILES[0]))
    return model.eval()


def _coarse(release: Drawable) -> TwoScale:
    coarse = image_model.load(release)
    finisher = None
    if release.has_finisher:
        finisher = pretrained_checkpoint.load_finisher(release)
    return TwoScale(
        coarse,
        finisher,
        None,
        shape=release.image_shape,
        settings=release.recipe.coarse,
        sampler=release.recipe.sampler,
    )


def _new(release: Drawable) -> DetailNetwork:
    return DetailNetwork(release.schema.width, release.image_shape, release.recipe.detail)


def _draw_coarse(
    release: Release, records: torch.Tensor, seed: int, progress: Progress
) -> torch.Tensor:
    model, device = _coarse(release).to(release.compute.torch_device), release.compute.torch_device
    random, drawn = torch.Generator().manual_seed(seed), []
    for part in records.split(_CHUNK):
        drawn.append(model.draw_coarse(part.to(device), random).float().cpu())
        progress(min(1.0, len(drawn) * _CHUNK / len(records)), "drawing coarse images")
    return torch.cat(drawn)
