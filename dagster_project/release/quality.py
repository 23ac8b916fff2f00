"""Public quality metrics: the synthetic table against noisy marginals already paid for.

They are post-processing only, so they cost nothing and may be published. The private report
(`evaluation`) compares with real records.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.data.schema import Schema

if TYPE_CHECKING:
    from dagster_project.table.measurements import Measurement


def public_quality(
    codes: np.ndarray, schema: Schema, measurements: Iterable[Measurement]
) -> dict[str, Any]:
    """Compute the total variation distance on each measured clique, and that expected from noise.

    A clique measured more than once is averaged with weights 1/sigma^2. Noisy counts are divided
    by the inverse-variance estimate of the total, and neither clipped nor rounded, so that the
    expectation below is exact: if the synthetic table had the true distribution p, a cell would
    differ by a Gaussian of variance (sigma/total)^2 + p(1-p)/n, whose mean absolute value is
    sqrt(2/pi) standard deviations.

    Args:
        codes: Synthetic records, cells (n, d) in schema order.
        schema: The public contract.
        measurements: The table model's noisy marginals.

    Returns:
        JSON: "cliques" (clique, cells, tvd, expected_tvd), their means, and n_synthetic.

    Raises:
        ValueError: If there is no record or measurement, or a measurement does not fit the schema.
    """
    combined = _combine(schema, measurements)
    if not combined or not len(codes):
        raise ValueError("Quality needs at least one measurement and one synthetic record.")
    total = _total(combined)
    rows = []
    for clique, (noisy, sigma) in combined.items():
        synthetic = _marginal(codes, schema, clique) / len(codes)
        spread = np.sqrt((sigma / total) ** 2 + synthetic * (1 - synthetic) / len(codes))
        rows.append(
            {
                "clique": list(clique),
                "cells": len(noisy),
                "tvd": float(np.abs(synthetic - noisy / total).sum() / 2),
                "expected_tvd": float(math.sqrt(2 / math.pi) * spread.sum() / 2),
            }
        )
    return {
        "n_synthetic": len(codes),
        "mean_tvd": float(np.mean([row["tvd"] for row in rows])),
        "mean_expected_tvd": float(np.mean([row["expected_tvd"] for row in rows])),
        "cliques": sorted(rows, key=lambda row: (len(row["clique"]), row["clique"])),
    }


def _combine(
    schema: Schema, measurements: Iterable[Measurement]
) -> dict[tuple[str, ...], tuple[np.ndarray, float]]:
    sums: dict[tuple[str, ...], tuple[np.ndarray, float]] = {}
    for measurement in measurements:
        clique, precision = measurement.names, measurement.sigma**-2
        if not set(clique) <= set(schema.names) or measurement.values.shape != _shape(
            schema, clique
        ):
            raise ValueError("A measurement does not fit the schema.")
        noisy = measurement.values.astype(np.float64).ravel()
        weighted, weight = sums.get(clique, (np.zeros_like(noisy), 0.0))
        sums[clique] = (weighted + noisy * precision, weight + precision)
    return {
        clique: (weighted / weight, weight**-0.5) for clique, (weighted, weight) in sums.items()
    }


def _total(combined: dict[tuple[str, ...], tuple[np.ndarray, float]]) -> float:
    """Return the inverse-variance mean of the cliques' sums, at least 1.

    Each sum estimates the same number of people, with variance cells * sigma^2.
    """
    estimates = [(noisy.sum(), 1 / (len(noisy) * sigma**2)) for noisy, sigma in combined.values()]
    mean = sum(value * weight for value, weight in estimates) / sum(w for _, w in estimates)
    return max(float(mean), 1.0)


def _shape(schema: Schema, clique: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(schema.sizes[schema.names.index(name)] for name in clique)


def _marginal(codes: np.ndarray, schema: Schema, clique: tuple[str, ...]) -> np.ndarray:
    """Count the clique's joint cells, row-major."""
    shape = _shape(schema, clique)
    columns = [np.asarray(codes)[:, schema.names.index(name)].astype(np.int64) for name in clique]
    cells = np.ravel_multi_index(columns, shape)
    return np.bincount(cells, minlength=math.prod(shape)).astype(np.float64)
