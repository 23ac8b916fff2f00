"""Models of images given a record, and the private statistics that train them.

These are the mean pairs and their generator, the diffusion network with its pretraining and DP-SGD,
and the public networks whose features both of them use.
"""
