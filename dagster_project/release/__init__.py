"""The public bundle of one release: files, manifest, data card and public quality.

Everything here is post-processing of differentially private artifacts and of the public plan and
schema; nothing in this package may be handed a private record. Drawing the synthetic pairs
themselves belongs to `table` and `image`.
"""
