"""The metrics of one comparison with real pairs, and their JSON format.

They are computed in `fidelity`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dagster_project.evaluation.correlation import CorrelationScores
from dagster_project.evaluation.intervals import Interval

NOTICE = "Private: computed on real records, not differentially private. Do not release."


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """Metrics of one release; NaN where undefined, for example without a numeric attribute.

    The floor is the score of randomly matched images and records. The ceiling, and every `_real`,
    is the score of as many real pairs.

    Attributes:
        epsilon: Privacy loss of the release; set by the caller.
        delta: Delta of the release; set by the caller.
        auc_mean: Mean over attributes of the macro one-vs-rest AUC on held-out real pairs of a
            predictor trained on the synthetic pairs.
        auc_floor: The same for synthetic images with shuffled records.
        auc_ceiling: The same for real training pairs.
        mae_mean: Mean range-normalised error of the same predictor over numeric attributes.
        mae_floor: The same for shuffled records.
        mae_ceiling: The same for real training pairs.
        tvd_1way: Mean total variation distance of 1-way marginals to the training table.
        tvd_2way: The same for 2-way marginals.
        tvd_3way: The same for 3-way marginals.
        tvd_sampling_floor: Distance of as many rows of the real table, by "1", "2", "3".
        fd: Fréchet distance between synthetic and held-out real images.
        fd_real: The same for real training images.
        fd_extractor: Name of `fd`, by its features: "FID", "FD-Lite0", "FD-pixels".
        kid: Kernel distance on the same features.
        kid_real: The same for real training images.
        precision: Share of synthetic images within the real manifold.
        precision_real: The same for real training images.
        recall: Share of real images within the synthetic manifold.
        recall_real: Share within the manifold of real training images.
        density: Synthetic images near a real one, relative to an even spread (Naeem et al. 2020).
        density_real: The same for real training images; about 1.
        coverage: Share of real images with a synthetic image among their 5 nearest neighbours.
        coverage_real: The same for real training images; about .97.
        near_duplicates: Share of synthetic images that are at most as far from another synthetic
            one as the closest 1 % of the real images are from theirs.
        near_duplicates_real: The same for real training images; about .01.
        esg: Embedding-similarity gap divided by that of held-out real pairs (1 = as real).
        esg_floor: The same with shuffled records.
        correlation: Record-image correlations, on pooled pixels.
        attributes: One row for each attribute: name, kind, tvd, auc, auc_floor, auc_ceiling,
            accuracy, accuracy_ceiling, mae, mae_floor, mae_ceiling, eta_squared,
            eta_squared_real, auc_interval, accuracy_interval, mae_interval.
        tvd_pairs: 2-way distances by attributes, 1-way on the diagonal (d rows of d).
        intervals: 95 % intervals over held-out people (`intervals`), by figure; None if the
            samples provide none. The tables are compared with all training records and the Fréchet
            distance is biased by resampling, so they have no interval.
        ways: Intervals of the way from floor to ceiling, in [0, 1], of auc_mean, mae_mean, esg and
            correlation_gap.
        rows: Number of pairs or records compared, by set.
        peak_memory: Bytes, of the whole run; set by the caller.
        seconds: Wall-clock seconds by asset; set by the caller.
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
    density: float
    density_real: float
    coverage: float
    coverage_real: float
    near_duplicates: float
    near_duplicates_real: float
    esg: float
    esg_floor: float
    correlation: CorrelationScores
    attributes: tuple[Mapping[str, Any], ...]
    tvd_pairs: tuple[tuple[float, ...], ...]
    intervals: Mapping[str, Interval | None]
    ways: Mapping[str, Interval | None]
    rows: Mapping[str, int]
    peak_memory: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return strict JSON (NaN becomes null), with a notice that it is private."""
        content = {"notice": NOTICE, **plain(asdict(self))}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Convert to JSON types; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
