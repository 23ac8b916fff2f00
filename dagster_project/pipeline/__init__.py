"""The stages of a release in their order: what each one reads, spends and writes.

A stage joins the library (mechanisms, models) to the ledger and to files. It knows nothing of
Dagster: `orchestration` binds the stages to the graph, and `benchmark` runs them without it.
"""
