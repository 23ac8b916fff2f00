"""Mechanisms, accounting and the budget ledger; knows nothing of tables, networks or Dagster."""
