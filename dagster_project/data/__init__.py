"""Private data and its public contract: schema, file layouts, records and images.

This package turns a data folder into `Pairs`. It holds the public schema, the accepted layouts,
the reader with one pair for each person, the check of a folder and the version of its data. It
knows no privacy mechanism. Data sets in other formats belong to `importers`.
"""
