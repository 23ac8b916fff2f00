"""Audits of the privacy guarantees, which try to make happen what must not happen.

Nothing else in the package imports them, except the command line that runs them.
"""
