"""Routing rules: sources that find other nodes through the tunnel."""
