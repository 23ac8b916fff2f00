"""Brings data sets, in the form their owners hand them out, into this project's layout.

One module for each format says what lies where and what a row means; `writing` streams the rows
into Parquet. What a record may hold is the schema's business, reading for a release that of
`pairs`.
"""
