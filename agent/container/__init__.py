"""Containers: launched by runc, watched, and ended."""
