"""The stages of a release in the data's order: what each reads, spends and writes.

A stage joins the library (mechanisms, models) to the ledger and to files. It knows nothing of
Dagster: `assets/` binds stages to the graph, `compare` may run them without it.
"""
