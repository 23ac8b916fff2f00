"""Systems side by side on public data: same data, split and compute, a stated budget each.

NOT A RELEASE: choosing between settings by figures on real data is not differentially private, so
nothing here runs on data that is not public. Every trial (method, epsilon, seed) still spends its
budget in a throw-away ledger, so that what it states is what a release would have paid.
"""

NOTICE = (
    "NOT A RELEASE: a comparison on public data. Its figures are computed on real records, and "
    "choosing a setting by them is not differentially private."
)
