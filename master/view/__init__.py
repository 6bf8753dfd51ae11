"""The View that the leader publishes."""
