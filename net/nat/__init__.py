"""Masquerade: containers reach the world with the address of their node."""
