"""Where the work of a stage runs: in this process, in a pool of processes, or on a Ray cluster.

The stages know only `Workers`. Workers compute exact results of parts of the data; they draw no
privacy noise, choose nobody, do not know the ledger, and write no file but decoded pictures, into
the private zone.
"""
