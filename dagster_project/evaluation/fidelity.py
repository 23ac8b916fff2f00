"""All figures of the fidelity report, from real and synthetic pairs.

The result is computed on real records and is not differentially private. Showing it belongs to
`report`; what is compared and how belongs to the modules named there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dagster_project.evaluation import Progress, part, silent
from dagster_project.evaluation.alignment import similarity_gap
from dagster_project.evaluation.correlation import CorrelationScores, correlation_scores
from dagster_project.evaluation.distributions import kway_tvd, pairwise_tvd, sampling_floor
from dagster_project.evaluation.features import Extractor, PooledPixels
from dagster_project.evaluation.frechet import frechet_distance, kid, precision_recall
from dagster_project.evaluation.predictors import (
    AttributeScores,
    evaluate_alignment,
    shuffle_records,
)
from dagster_project.evaluation.reference import (
    LEAST_ROWS,
    MANIFOLD_ROWS,
    PREDICTOR_ROWS,
    Reference,
    draw,
    make_reference,
)
from dagster_project.pairs.pairs import Pairs
from dagster_project.table.schema import Schema

_SHUFFLES = 2  # one shuffled predictor's chance is noisy

NOTICE = "Private: computed on real records, not differentially private. Do not release."


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """Figures of one release; NaN where the data allows none (no numeric attribute, say).

    Floor: pictures and records tied at random. Ceiling, and every `_real`: as many real pairs,
    scored in the same way.

    Attributes:
        epsilon: Privacy loss of the release; filled by the caller.
        delta: Its delta; filled by the caller.
        auc_mean: Mean over attributes of the macro one-vs-rest AUC on held-out real pairs of a
            predictor trained on the synthetic pairs.
        auc_floor: The same for synthetic pictures with shuffled records.
        auc_ceiling: The same for real training pairs.
        mae_mean: Mean range-normalised error of the same predictor over numeric attributes.
        mae_floor: For shuffled records.
        mae_ceiling: For real training pairs.
        tvd_1way: Mean total variation distance of 1-way marginals to the training table.
        tvd_2way: Of 2-way marginals.
        tvd_3way: Of 3-way marginals.
        tvd_sampling_floor: By "1", "2", "3": what as many rows of the real table would have.
        fd: Fréchet distance of synthetic to held-out real pictures.
        fd_real: Of real training to held-out real pictures.
        fd_extractor: What `fd` is called, by its features: "FID", "FD-Lite0", "FD-pixels".
        kid: Kernel distance on the same features.
        kid_real: Of real training pictures.
        precision: Share of synthetic pictures within the real manifold.
        precision_real: Of real training pictures.
        recall: Share of real pictures within the synthetic manifold.
        recall_real: Within that of real training pictures.
        esg: Embedding-similarity gap over that of held-out real pairs (1 = as real).
        esg_floor: The same with shuffled records.
        correlation: Record-picture correlations, on pooled pixels.
        attributes: One row for each attribute: name, kind, tvd, auc, auc_floor, auc_ceiling,
            accuracy, accuracy_ceiling, mae, mae_floor, mae_ceiling, eta_squared,
            eta_squared_real.
        tvd_pairs: 2-way distances by attributes, 1-way on the diagonal (d rows of d).
        rows: Number of pairs or records compared, by set.
        peak_memory: Bytes, of the whole run; filled by the caller.
        seconds: Wall-clock seconds by asset; filled by the caller.
    """

    epsilon: float | None = None
    delta: float | None = None
    auc_mean: float
    auc_floor: float
    auc_ceiling: float
    mae_mean: float
    mae_floor: float
    mae_ceiling: float
    tvd_1way: float
    tvd_2way: float
    tvd_3way: float
    tvd_sampling_floor: Mapping[str, float]
    fd: float
    fd_real: float
    fd_extractor: str
    kid: float
    kid_real: float
    precision: float
    precision_real: float
    recall: float
    recall_real: float
    esg: float
    esg_floor: float
    correlation: CorrelationScores
    attributes: tuple[Mapping[str, Any], ...]
    tvd_pairs: tuple[tuple[float, ...], ...]
    rows: Mapping[str, int]
    peak_memory: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Strict JSON (NaN becomes null), with a notice that it is private."""
        content = {"notice": NOTICE, **_plain(asdict(self))}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


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
    """Computes every figure; about 80 CPU-seconds for 20,000, 4,000 and 4,000 grey 28x28 pairs.

    Args:
        train: The real pairs the release was made from.
        heldout: Real pairs that no mechanism has seen.
        synthetic: The released pairs.
        table_codes: Many records (M, d) of the table model, for the distances between tables.
        schema: The schema of all of them.
        extractor: Feature extractor for the distances between pictures.
        seed: Public randomness of the evaluation.
        progress: Fraction done and the current step.

    Returns:
        The report, without `epsilon`, `delta`, `peak_memory` and `seconds`: the caller sets them
        with `dataclasses.replace`.

    Raises:
        ValueError: A set is too small to compare.
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
    """`evaluate` with what depends on the real data alone computed before.

    Args:
        reference: From the same real pairs, extractor, seed and number of synthetic pairs.
        train, heldout, synthetic, table_codes, schema, extractor, seed: As in `evaluate`.
        shuffles: Predictors trained on shuffled records, whose mean is the floor.
        progress: Fraction done and the current step.

    Raises:
        ValueError: A set is too small, or the reference was made for another comparison.
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
    precision, recall = precision_recall(reference.real[:MANIFOLD_ROWS], fake[:MANIFOLD_ROWS])
    fd, kernel = frechet_distance(reference.real, fake), kid(reference.real, fake)
    progress(0.35, "distances between pictures")

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
    floor, ceiling = _average(shuffled), reference.ceiling
    gap = similarity_gap(reference.encoders, synthetic, schema, rng=rng)
    progress(1.0, "similarity gap")
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
        kid=kernel,
        kid_real=reference.kid_real,
        precision=precision,
        precision_real=reference.precision_real,
        recall=recall,
        recall_real=reference.recall_real,
        esg=gap.synthetic,
        esg_floor=gap.shuffled,
        correlation=correlation,
        attributes=_attribute_rows(schema, pairs_matrix, value, ceiling, floor, correlation),
        tvd_pairs=tuple(map(tuple, pairs_matrix.tolist())),
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


def _average(scores: list[AttributeScores]) -> AttributeScores:
    def mean(kind: str) -> dict[str, float]:
        tables = [getattr(score, kind) for score in scores]
        return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}

    return AttributeScores(auc=mean("auc"), mae=mean("mae"), accuracy=mean("accuracy"))


def _attribute_rows(
    schema: Schema,
    distances: np.ndarray,
    value: AttributeScores,
    ceiling: AttributeScores,
    floor: AttributeScores,
    correlation: CorrelationScores,
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
        }
        for i, a in enumerate(schema.attributes)
    )


def _plain(value: Any) -> Any:
    """The same content with only JSON's types; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
