"""The stages of a release: what each one reads, spends and writes.

A stage connects the library (mechanisms, models) with the ledger and with files. It does not depend
on Dagster: `orchestration` binds the stages to the graph, and `benchmark` runs them without it.
"""
