"""From a folder of data to a draft of schema.yaml and population.yaml.

The draft comes from file types, column names and Parquet types. No value is read, unless it is one
of a sample that its owner declares public. What a schema may contain is decided by `data`.
"""
