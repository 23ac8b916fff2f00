"""Metrics of how close a synthetic set is to the real one: table, images, and their alignment.

Every metric here is computed on real records and is not differentially private: it stays in the
private zone. Each is reported with two reference values: that of unrelated pairs (floor) and that
of as many real pairs (ceiling). Public quality metrics are in `release.quality`.
"""
