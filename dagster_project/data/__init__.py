"""What is read and under which contract: schema, file layouts, records, pictures.

Everything that turns a data folder into `Pairs`: the public schema, the accepted layouts, reading
with one pair for each person, the check of a folder, and the version of its data. Knows no privacy
mechanism; data sets in other formats belong to `importers`.
"""
