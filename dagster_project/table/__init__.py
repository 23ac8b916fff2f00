"""The record side: the public schema, marginals and the private table models."""
