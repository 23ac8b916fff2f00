"""Converters of data sets from the formats in which their owners publish them.

One module for each format knows the files and the meaning of a row, and `registry` lists them;
`writing` streams the rows into Parquet. The schema decides what a record may hold, and reading for
a release belongs to `data`.
"""
