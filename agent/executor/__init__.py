"""Executors: custom ones that speak the executor API, and groups of tasks that we run ourselves."""
