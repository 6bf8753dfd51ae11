"""Sessions: the input and output of a container over a connection."""
