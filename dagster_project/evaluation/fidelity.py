"""The metrics of the fidelity report, from real and synthetic pairs.

The result is computed on real records and is not differentially private. Its type is in `figures`,
its presentation in `report`, and the metrics are in the modules imported here.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dagster_project.data.pairs import Pairs
from dagster_project.data.persons import LEAST_ROWS
from dagster_project.data.progress import Progress, part, silent
from dagster_project.data.schema import Schema
from dagster_project.evaluation.alignment import similarity_gap
from dagster_project.evaluation.correlation import CorrelationScores, correlation_scores
from dagster_project.evaluation.distributions import kway_tvd, pairwise_tvd, sampling_floor
from dagster_project.evaluation.figures import FidelityReport
from dagster_project.evaluation.frechet import frechet_distance, kid_draws
from dagster_project.evaluation.intervals import (
    Interval,
    interval,
    resampling_weights,
    way_interval,
)
from dagster_project.evaluation.neighbours import Neighbours, neighbours
from dagster_project.evaluation.predictors import (
    AttributeScores,
    average,
    evaluate_alignment,
    shuffle_records,
)
from dagster_project.evaluation.reference import (
    NEIGHBOUR_ROWS,
    PREDICTOR_ROWS,
    Reference,
    draw,
    make_reference,
)
from dagster_project.image.features import Extractor, PooledPixels

_SHUFFLES = 2  # the score of a single shuffled predictor is noisy


def evaluate(
    train: Pairs,
    heldout: Pairs,
    synthetic: Pairs,
    table_codes: np.ndarray,
    schema: Schema,
    extractor: Extractor,
    seed: int,
    progress: Progress = silent,
) -> FidelityReport:
    """Compute all metrics; about 80 CPU-seconds for 20,000, 4,000 and 4,000 grey 28x28 pairs.

    Args:
        train: The real pairs the release was made from.
        heldout: Real pairs that no mechanism has seen.
        synthetic: The released pairs.
        table_codes: Many records (M, d) of the table model, for the distances between tables.
        schema: The schema of all sets.
        extractor: Feature extractor for the distances between images.
        seed: Public randomness of the evaluation.
        progress: Callback that receives the fraction done and the current step.

    Returns:
        The report, without `epsilon`, `delta`, `peak_memory` and `seconds`, which the caller sets
        with `dataclasses.replace`.

    Raises:
        ValueError: If a set is too small to compare.
    """
    _require_rows(train, heldout, synthetic, table_codes)
    reference = make_reference(
        train,
        heldout,
        schema,
        extractor,
        synthetic=len(synthetic),
        seed=seed,
        progress=part(progress, 0, 0.5),
    )
    return compare(
        reference, train, heldout, synthetic, table_codes, schema, extractor, seed,
        progress=part(progress, 0.5, 1.0),
    )  # fmt: skip


def compare(
    reference: Reference,
    train: Pairs,
    heldout: Pairs,
    synthetic: Pairs,
    table_codes: np.ndarray,
    schema: Schema,
    extractor: Extractor,
    seed: int,
    *,
    shuffles: int = _SHUFFLES,
    progress: Progress = silent,
) -> FidelityReport:
    """Compute all metrics like `evaluate`, with a precomputed reference of the real data.

    Args:
        reference: From the same real pairs, extractor, seed and number of synthetic pairs.
        train, heldout, synthetic, table_codes, schema, extractor, seed: As in `evaluate`.
        shuffles: Number of predictors trained on shuffled records, whose mean is the floor.
        progress: Callback that receives the fraction done and the current step.

    Raises:
        ValueError: If a set is too small, or the reference was made for another comparison.
    """
    _require_rows(train, heldout, synthetic, table_codes)
    if (reference.extractor, reference.synthetic) != (extractor.distance, len(synthetic)):
        raise ValueError("The reference was made for another extractor or number of pairs.")
    rng = np.random.default_rng([seed, 1])
    sizes = schema.sizes
    train_codes = np.asarray(train.codes)
    orders = [k for k in (1, 2, 3) if k <= len(sizes)]
    tvd = {k: kway_tvd(train_codes, table_codes, sizes, k) for k in orders}
    floors = {
        str(k): sampling_floor(train_codes, sizes, k, n_synthetic=len(table_codes), rng=rng)
        for k in orders
    }
    progress(0.02, "distances between tables")

    drawn = draw(synthetic, len(reference.real), rng)
    correlation = correlation_scores(
        (reference.real_pixels, reference.real_codes),
        (reference.other_pixels, reference.other_codes),
        (PooledPixels()(drawn.images, silent), drawn.codes),
        schema,
        rng,
    )
    fake = extractor(drawn.images, part(progress, 0.04, 0.3))
    near = neighbours(reference.real[:NEIGHBOUR_ROWS], fake[:NEIGHBOUR_ROWS])
    kernel = kid_draws(reference.real, fake, resampling_weights(len(fake), rng))
    fd = frechet_distance(reference.real, fake)
    progress(0.35, "distances between images")

    learner = draw(synthetic, min(PREDICTOR_ROWS, len(train), len(synthetic)), rng)
    learners = [learner, *(shuffle_records(learner, rng) for _ in range(shuffles))]
    width = 0.6 / len(learners)
    value, *shuffled = (
        evaluate_alignment(
            pairs, heldout, schema, seed,
            part(progress, 0.35 + i * width, 0.35 + (i + 1) * width),
        )
        for i, pairs in enumerate(learners)
    )  # fmt: skip
    floor, ceiling = average(shuffled), reference.ceiling
    gap = similarity_gap(reference.encoders, synthetic, schema, rng=rng)
    progress(1.0, "similarity gap")
    figures: dict[str, Any] = near.figures()
    figures |= {f"{name}_real": known for name, known in reference.neighbours_real.items()}
    pairs_matrix = pairwise_tvd(train_codes, table_codes, sizes)
    return FidelityReport(
        auc_mean=value.auc_mean,
        auc_floor=floor.auc_mean,
        auc_ceiling=ceiling.auc_mean,
        mae_mean=value.mae_mean,
        mae_floor=floor.mae_mean,
        mae_ceiling=ceiling.mae_mean,
        tvd_1way=tvd[1],
        tvd_2way=tvd.get(2, math.nan),
        tvd_3way=tvd.get(3, math.nan),
        tvd_sampling_floor=floors,
        fd_extractor=extractor.distance,
        fd=fd,
        fd_real=reference.fd_real,
        kid=float(kernel[0]),
        kid_real=reference.kid_real,
        **figures,
        esg=gap.synthetic,
        esg_floor=gap.shuffled,
        correlation=correlation,
        attributes=_attribute_rows(
            schema, pairs_matrix, value, ceiling, floor, correlation, heldout=len(heldout)
        ),
        tvd_pairs=tuple(map(tuple, pairs_matrix.tolist())),
        intervals={
            "auc_mean": interval(value.mean_draws("auc"), 0, 1),
            "mae_mean": interval(value.mean_draws("mae"), 0),
            "esg": gap.interval,
            "correlation_gap": correlation.gap_interval,
            "kid": interval(kernel),
            **_neighbour_intervals(near, rng),
        },
        ways={
            **{
                f"{kind}_mean": way_interval(
                    *(score.mean_draws(kind) for score in (floor, value, ceiling))
                )
                for kind in ("auc", "mae")
            },
            "esg": gap.way,
            "correlation_gap": correlation.gap_way,
        },
        rows={
            "train": len(train),
            "heldout": len(heldout),
            "synthetic": len(synthetic),
            "table": len(table_codes),
        },
    )


def _require_rows(train: Pairs, heldout: Pairs, synthetic: Pairs, table_codes: np.ndarray) -> None:
    if min(len(train), len(heldout), len(synthetic), len(table_codes)) < LEAST_ROWS:
        raise ValueError(f"The fidelity report needs at least {LEAST_ROWS} rows in every set.")


def _neighbour_intervals(near: Neighbours, rng: np.random.Generator) -> dict[str, Interval | None]:
    people = len(near.only)
    draws = near.draws(resampling_weights(people, rng))
    # These two are shares of people; the others are shares of synthetic pairs, or no shares.
    shares = {
        name: interval(draws.pop(name), 0, 1, people=people) for name in ("recall", "coverage")
    }
    density = {"density": interval(draws.pop("density"), 0)}
    return shares | density | {name: interval(values, 0, 1) for name, values in draws.items()}


def _attribute_rows(
    schema: Schema,
    distances: np.ndarray,
    value: AttributeScores,
    ceiling: AttributeScores,
    floor: AttributeScores,
    correlation: CorrelationScores,
    *,
    heldout: int,
) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "name": a.name,
            "kind": a.kind,
            "tvd": float(distances[i, i]),
            "auc": value.auc[a.name],
            "auc_floor": floor.auc[a.name],
            "auc_ceiling": ceiling.auc[a.name],
            "accuracy": value.accuracy[a.name],
            "accuracy_ceiling": ceiling.accuracy[a.name],
            "mae": value.mae.get(a.name, math.nan),
            "mae_floor": floor.mae.get(a.name, math.nan),
            "mae_ceiling": ceiling.mae.get(a.name, math.nan),
            "eta_squared": correlation.eta_squared[a.name][1],
            "eta_squared_real": correlation.eta_squared[a.name][0],
            "auc_interval": interval(np.array(value.auc_draws[a.name]), 0, 1),
            "accuracy_interval": interval(
                np.array(value.accuracy_draws[a.name]), 0, 1, people=heldout
            ),
            "mae_interval": interval(np.array(value.mae_draws.get(a.name, [math.nan])), 0),
        }
        for i, a in enumerate(schema.attributes)
    )
