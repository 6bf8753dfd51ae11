"""More processes that answer at the same addresses, each with the names of the whole cluster."""
