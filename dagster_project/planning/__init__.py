"""From epsilon to a plan: the list of mechanisms, the division of the budget among them, what
code a plan runs, and the ways to release again. Reads no record.
"""
