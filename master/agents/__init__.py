"""Agents: admission, tasks on them, liveness."""
