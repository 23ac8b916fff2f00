"""Converts data sets from the formats in which their owners publish them.

One module for each format says what lies where and what a row means; `writing` streams the rows
into Parquet. What a record may hold is up to the schema, and reading for a release belongs to
`data`.
"""
