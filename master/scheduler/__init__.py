"""Frameworks: subscriptions and calls of the v1 scheduler API."""
