"""Addresses of containers: which one is next, and who holds which."""
