"""Public images: the pool, the private query that ranks it, and the selection from it."""
