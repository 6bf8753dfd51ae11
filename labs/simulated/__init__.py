"""Agents without a machine below them: what a master sees of thousands of nodes."""
