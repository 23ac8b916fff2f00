"""The public bundle of a release: files, manifest, data card and public quality metrics.

Everything here is post-processing of differentially private artifacts and of the public plan and
schema; nothing in this package may receive a private record. The synthetic pairs are sampled by
`table` and `image`.
"""
