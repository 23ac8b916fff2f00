"""The figures of one comparison with real pairs, and their form as JSON.

Computing them belongs to `fidelity`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dagster_project.evaluation.correlation import CorrelationScores

NOTICE = "Private: computed on real records, not differentially private. Do not release."


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """Figures of one release; NaN where the data allows none (no numeric attribute, say).

    Floor: images and records tied at random. Ceiling, and every `_real`: as many real pairs,
    scored in the same way.

    Attributes:
        epsilon: Privacy loss of the release; filled by the caller.
        delta: Its delta; filled by the caller.
        auc_mean: Mean over attributes of the macro one-vs-rest AUC on held-out real pairs of a
            predictor trained on the synthetic pairs.
        auc_floor: The same for synthetic images with shuffled records.
        auc_ceiling: The same for real training pairs.
        mae_mean: Mean range-normalised error of the same predictor over numeric attributes.
        mae_floor: For shuffled records.
        mae_ceiling: For real training pairs.
        tvd_1way: Mean total variation distance of 1-way marginals to the training table.
        tvd_2way: Of 2-way marginals.
        tvd_3way: Of 3-way marginals.
        tvd_sampling_floor: By "1", "2", "3": what as many rows of the real table would have.
        fd: Fréchet distance of synthetic to held-out real images.
        fd_real: Of real training to held-out real images.
        fd_extractor: What `fd` is called, by its features: "FID", "FD-Lite0", "FD-pixels".
        kid: Kernel distance on the same features.
        kid_real: Of real training images.
        precision: Share of synthetic images within the real manifold.
        precision_real: Of real training images.
        recall: Share of real images within the synthetic manifold.
        recall_real: Within that of real training images.
        esg: Embedding-similarity gap over that of held-out real pairs (1 = as real).
        esg_floor: The same with shuffled records.
        correlation: Record-image correlations, on pooled pixels.
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
        content = {"notice": NOTICE, **plain(asdict(self))}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """The same content with only JSON's types; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
