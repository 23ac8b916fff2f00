"""Privacy loss and privacy noise: events, accounting, calibration, noise, sampling, the plan.

This package knows nothing of tables, images or files. Who has spent what belongs to `ledger`, and
how a budget is divided among mechanisms to `planning`.
"""
