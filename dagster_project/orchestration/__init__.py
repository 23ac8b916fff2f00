"""Dagster's graph of a release: assets, checks, sensors, resources, MLflow tracking.

Thin by design: an asset calls its stage in `pipeline` and shows the result.
"""
