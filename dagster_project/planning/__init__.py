"""Planning a release: the mechanisms, the budget split among them, and the version of the code.

Nothing here reads a record.
"""
