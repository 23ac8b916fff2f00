"""Public settings of a release: the recipe, section by section, and its presets.

Imports nothing of the package, so that every room can take its own section.
"""
