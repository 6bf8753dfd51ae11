"""The JSON of the endpoints before v1."""
