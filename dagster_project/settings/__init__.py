"""The public settings of a release: the recipe, its sections and its presets.

This package imports nothing from the rest of the project, so every room can use its own section.
"""
