"""Pretrains the conditional network on public images selected by the query, at no privacy cost.

This is post-processing of the query's answer and the table model: the images have labels that the
private images resemble, each with a record from P(record | label).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import load_file

from dagster_project.data.progress import Progress
from dagster_project.image.coarse import pool as pool_images
from dagster_project.image.edm import LEVELS
from dagster_project.image.mixer import PatchMixer
from dagster_project.image.pretraining import pretrain
from dagster_project.image.unet import UNet
from dagster_project.pipeline import mean_pairs, public_images, semantic_query, table_model
from dagster_project.pipeline.networks import save_network
from dagster_project.pipeline.release import Release
from dagster_project.public_data.selection import (
    draw_records,
    label_order,
    records_of_labels,
    select_images,
)

CHECKPOINT, SELECTION = "public_checkpoint.safetensors", "public_selection.npz"
_CANDIDATES = 20_000  # records of the table model that a label's records are chosen from


@dataclass(frozen=True)
class Selection:
    """The selection from the pool.

    Attributes:
        images: Positions in the pool.
        labels: Their labels, in the order of selection.
        soft: (labels of the pool, cells) P(A_i | label).
    """

    images: np.ndarray
    labels: np.ndarray
    soft: np.ndarray


def make(release: Release, progress: Progress) -> bool:
    """Write `models/<id>/public_checkpoint.safetensors`; do nothing without a public pool."""
    if not public_images.used(release):
        return False

    def run() -> None:
        selection = _select(release)
        with (release.models / SELECTION).open("wb") as stream:
            np.savez(stream, **vars(selection))
        model = _train(release, selection, progress)
        save_network(model, release.models / CHECKPOINT)

    return release.once(
        "public_checkpoint",
        run,
        executed=None,
        files=(SELECTION, CHECKPOINT),
        parents=("table_model", "semantic_query"),
    )


def start(release: Release) -> UNet | PatchMixer:
    """Return the network for the next stage, pretrained on public images or new."""
    model = release.new_network()
    if public_images.used(release):
        model.load_state_dict(load_file(release.models / CHECKPOINT))
    return model


def load(release: Release) -> Selection:
    """Load the selection."""
    with np.load(release.models / SELECTION, allow_pickle=False) as arrays:
        return Selection(**{name: arrays[name] for name in arrays.files})


def preview(release: Release, *, labels: int = 2, images: int = 6) -> bytes:
    """Plot the selected labels with the largest counts for each value of the first attribute.

    Returns:
        A PNG with images of each label.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pool, selection, answer = (
        public_images.load_pool(release),
        load(release),
        semantic_query.load(release),
    )
    attribute = release.schema.attributes[0]
    figure = Figure(figsize=(0.55 * labels * (images + 0.5) + 1.2, 0.75 * attribute.size))
    FigureCanvasAgg(figure)
    axes = figure.subplots(attribute.size, labels, squeeze=False)
    for row, value in enumerate(attribute.labels):
        best = selection.labels[np.argsort(-answer.counts[row, selection.labels])[:labels]]
        axes[row, 0].set_ylabel(value, rotation=0, ha="right", va="center", fontsize=8)
        for axis in axes[row]:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, label in zip(axes[row], best, strict=False):
            own = selection.images[pool.labels[selection.images] == label]
            shown = pool.images[
                own[np.linspace(0, len(own) - 1, min(images, len(own))).astype(int)]
            ]
            strip = np.concatenate(list(shown), axis=2).transpose(1, 2, 0)
            axis.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_title(
                f"{pool.names[label]}: {answer.counts[row, label]:,.0f}", fontsize=6, pad=2
            )
    stream = io.BytesIO()
    figure.tight_layout(pad=0.3)
    figure.savefig(stream, format="png", dpi=90)
    return stream.getvalue()


def _select(release: Release) -> Selection:
    settings, answer = release.recipe.semantic_query, semantic_query.load(release)
    pool = public_images.load_pool(release)
    images = select_images(
        answer.counts,
        pool.labels,
        share=settings.selected,
        noise_std=answer.noise_std,
        rng=np.random.default_rng([release.recipe.public_seed, 6]),
    )
    chosen = set(pool.labels[images].tolist())
    order = label_order(answer.counts, noise_std=answer.noise_std)
    soft = records_of_labels(
        answer.counts,
        release.schema.sizes,
        mean_pairs.one_way(table_model.load(release).model),
        noise_std=answer.noise_std,
    )
    return Selection(images, np.array([label for label in order if label in chosen]), soft)


def _train(release: Release, selection: Selection, progress: Progress) -> UNet | PatchMixer:
    settings, device = release.recipe.public_training, release.compute.torch_device
    rng = np.random.default_rng([release.recipe.public_seed, 7])
    pool = public_images.load_pool(release)
    # Each presentation of an image gets its own record.
    shown = rng.choice(selection.images, settings.images)
    if settings.records == "soft":
        records = selection.soft[pool.labels[shown]]
    else:
        model = table_model.load(release).model
        candidates = model.sample(_CANDIDATES, rng)
        codes = draw_records(
            selection.soft, pool.labels[shown], candidates, release.schema.sizes, rng=rng
        )
        records = release.schema.one_hot(codes)
    images = torch.from_numpy(pool.images[shown]).float() / 127.5 - 1
    if release.two_scale:
        images = pool_images(images, release.diffusion_shape[1:])
    network = release.new_network().to(device)
    pretrain(
        network,
        images,
        torch.from_numpy(records),
        settings=settings,
        shift=settings.shift,
        seed=release.recipe.public_seed,
        levels=LEVELS,
        device=device,
        progress=lambda f, text: progress(f, "pretraining on public images"),
    )
    return network
