"""Assets of the graph, one file per stage."""
