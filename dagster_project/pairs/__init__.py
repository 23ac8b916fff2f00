"""Pairs of an image and a record: reading them, and the private statistics that join both."""
