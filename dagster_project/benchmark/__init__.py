"""Comparison of systems on public data with the same split, compute and stated budget.

NOT A RELEASE: choosing between settings by figures on real data is not differentially private, so
nothing here runs on data that is not public. Every trial (method, epsilon, seed) still spends its
budget in a throw-away ledger, so that it states what a release would have paid.
"""

NOTICE = (
    "NOT A RELEASE: a comparison on public data. Its figures are computed on real records, and "
    "choosing a setting by them is not differentially private."
)
