"""Paired table and image data as synthetic data under differential privacy."""

__version__ = "0.1.0"
