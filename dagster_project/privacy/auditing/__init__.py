"""Attempts to show that a privacy claim is false; they read and spend nothing of a real ledger."""
