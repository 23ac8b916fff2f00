"""Audits of the privacy guarantees: can what must not happen be made to happen?

Nothing else in the package imports them, except the command line that runs them.
"""
