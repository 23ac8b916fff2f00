"""Dagster graph of a release: assets, checks, sensors, resources, MLflow tracking.

The layer is thin by design: an asset calls its stage in `pipeline` and shows the result.
"""
