"""Containers: what runc is told, and what the kernel says of them."""
