"""The part of a comparison that depends only on the real data: features, ceilings, encoders.

It is the same for every synthetic set of one size and seed, so that several sets are compared with
the same ceiling and encoders, which are computed only once. It is computed on real records and is
private, like every metric derived from it. `fidelity` computes what depends on synthetic pairs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from dagster_project.data.pairs import Pairs
from dagster_project.data.persons import LEAST_ROWS
from dagster_project.data.progress import Progress, part, silent
from dagster_project.data.schema import Schema
from dagster_project.evaluation.alignment import Encoders, fit_encoders
from dagster_project.evaluation.frechet import frechet_distance, kid
from dagster_project.evaluation.neighbours import neighbours
from dagster_project.evaluation.predictors import AttributeScores, evaluate_alignment
from dagster_project.image.features import Extractor, PooledPixels

FEATURE_ROWS = 4000  # images per set in feature distances
NEIGHBOUR_ROWS = 2000  # images among which neighbours are looked for, whose cost is quadratic
PREDICTOR_ROWS = 8000

_ARRAYS = ("real", "real_pixels", "real_codes", "other_pixels", "other_codes")
_NUMBERS = ("fd_real", "kid_real")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Metrics and features of real pairs, for synthetic sets of `synthetic` pairs.

    Attributes:
        extractor: Name of the Fréchet distance on the extractor's features.
        synthetic: Number of synthetic pairs to compare with.
        real: Features (N, F) of held-out real images.
        real_pixels, real_codes: Pooled pixels and cell codes of the same pairs.
        other_pixels, other_codes: The same for as many training pairs.
        fd_real, kid_real: Distances of training images to held-out images.
        neighbours_real: Figures of the neighbours of training and held-out images, by name.
        ceiling: Scores of the predictor trained on as many real pairs.
        encoders: Encoders of the similarity gap.
    """

    extractor: str
    synthetic: int
    real: np.ndarray
    real_pixels: np.ndarray
    real_codes: np.ndarray
    other_pixels: np.ndarray
    other_codes: np.ndarray
    fd_real: float
    kid_real: float
    neighbours_real: Mapping[str, float]
    ceiling: AttributeScores
    encoders: Encoders

    def save(self, folder: Path) -> None:
        """Write the reference into a folder, without pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "arrays.npz", **{name: getattr(self, name) for name in _ARRAYS})
        state = {name: t.contiguous() for name, t in self.encoders.state().items()}
        save_file(state, folder / "encoders.safetensors")
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        content = numbers | {
            "extractor": self.extractor,
            "synthetic": self.synthetic,
            "neighbours_real": dict(self.neighbours_real),
            "ceiling": asdict(self.ceiling),
            "gap": self.encoders.real.tolist(),
        }
        (folder / "figures.json").write_text(json.dumps(content, indent=1))

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> Reference:
        """Load what `save` wrote."""
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
        content = json.loads((folder / "figures.json").read_text())
        image = schema.image
        return cls(
            **arrays,
            **{name: content[name] for name in _NUMBERS},
            extractor=content["extractor"],
            synthetic=content["synthetic"],
            neighbours_real=content["neighbours_real"],
            ceiling=AttributeScores(**content["ceiling"]),
            encoders=Encoders.of_state(
                load_file(folder / "encoders.safetensors"),
                (image.channels, image.height, image.width),
                schema,
                np.array(content["gap"]),
            ),
        )


def make_reference(
    train: Pairs,
    heldout: Pairs,
    schema: Schema,
    extractor: Extractor,
    *,
    synthetic: int,
    seed: int,
    progress: Progress = silent,
) -> Reference:
    """Compute the reference, which does not depend on the synthetic pairs.

    Args:
        train: Real pairs that synthetic ones are made from.
        heldout: Real pairs that no mechanism has seen.
        schema: The schema of both.
        extractor: Feature extractor for the distances between images.
        synthetic: Number of synthetic pairs to compare with; the ceilings use as many real ones.
        seed: Public randomness of the evaluation.
        progress: Callback that receives the fraction done and the current step.

    Raises:
        ValueError: If a set is too small to compare.
    """
    if min(len(train), len(heldout), synthetic) < LEAST_ROWS:
        raise ValueError(f"A comparison needs at least {LEAST_ROWS} pairs in every set.")
    rng = np.random.default_rng([seed, 0])
    n = min(FEATURE_ROWS, len(heldout), len(train), synthetic)
    sets = [draw(pairs, n, rng) for pairs in (heldout, train)]
    real, other = (
        extractor(pairs.images, part(progress, 0.3 * i, 0.3 * (i + 1)))
        for i, pairs in enumerate(sets)
    )
    pixels = [PooledPixels()(pairs.images, silent) for pairs in sets]
    learner = draw(train, min(PREDICTOR_ROWS, len(train), synthetic), rng)
    return Reference(
        extractor=extractor.distance,
        synthetic=synthetic,
        real=real,
        real_pixels=pixels[0],
        real_codes=np.asarray(sets[0].codes),
        other_pixels=pixels[1],
        other_codes=np.asarray(sets[1].codes),
        fd_real=frechet_distance(real, other),
        kid_real=kid(real, other),
        neighbours_real=neighbours(real[:NEIGHBOUR_ROWS], other[:NEIGHBOUR_ROWS]).figures(),
        ceiling=evaluate_alignment(learner, heldout, schema, seed, part(progress, 0.6, 0.75)),
        encoders=fit_encoders(
            train, heldout, schema, seed=seed, progress=part(progress, 0.75, 1.0)
        ),
    )


def draw(pairs: Pairs, n: int, rng: np.random.Generator) -> Pairs:
    """Draw `n` pairs without replacement."""
    return pairs.take(np.sort(rng.choice(len(pairs), n, replace=False)))
