"""Paired table and image data as synthetic data under differential privacy."""

import os

__version__ = "0.2.0"

# Threads that wait by spinning take the core from those that work: on two shared cores a training
# step took up to five times as long. Read by OpenMP when torch is loaded, so it is set here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
