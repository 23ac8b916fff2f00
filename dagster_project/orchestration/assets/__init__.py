"""The graph's assets, one file for each stage, in the data's order."""
