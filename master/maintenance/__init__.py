"""Maintenance: when machines will be unavailable, and which are down for it."""
