"""The state of Marathon, in memory and on disk."""
