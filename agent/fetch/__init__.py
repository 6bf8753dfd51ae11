"""Fetching what a command needs into its sandbox (reference mesos §6.5)."""
